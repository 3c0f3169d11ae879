"""The explorer as an ASGI application: the API under /api, the OpenAI-compatible one under /v1, and the page."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from steering_core.explorer.accelerator import Accelerator
from steering_core.explorer.ask import Ask
from steering_core.explorer.assets import PREFIX, assets
from steering_core.explorer.faults import tell_faults
from steering_core.explorer.kept import Kept
from steering_core.explorer.models import OpenModels
from steering_core.explorer.routes import ask, look, openai, steer, vectors
from steering_core.explorer.shield import Shield
from steering_core.explorer.state import Explorer
from steering_core.foundation.errors import SteerflowError
from steering_core.foundation.version import VERSION
from steering_core.store import Store

log = logging.getLogger(__name__)


def explorer_app(store: Store, models: Sequence[str] = (), token: str | None = None) -> FastAPI:
    """The application over `store`; requests may also name `models`, and must carry `token` where one is given."""
    box = Ask(store)
    explorer = Explorer(store, Accelerator(OpenModels(box, models)), box, Kept(store), wants_token=token is not None)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """The accelerator's thread runs, and the box for SQL is open, as long as the server."""
        explorer.accelerator.start()
        warming = asyncio.create_task(run_in_threadpool(_warmed, explorer))
        try:
            yield
            await warming
        finally:
            explorer.accelerator.stop()
            explorer.ask.close()

    app = FastAPI(
        title="steerflow explorer",
        version=VERSION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.explorer = explorer
    for router in (steer.router, vectors.router, look.router, ask.router):
        app.include_router(router, prefix="/api")
    app.include_router(openai.router, prefix="/v1")
    tell_faults(app)
    app.add_middleware(Shield, token=token)
    _serve_page(app)
    return app


def _warmed(explorer: Explorer) -> None:
    """Have what the page shows at once ready before it is asked for."""
    try:
        look.at_once(explorer)
    except SteerflowError as error:  # whoever asks for it is told the same
        log.warning("%s", error)


def _serve_page(app: FastAPI) -> None:
    found = assets()

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        """The page, with the names of its other files."""
        return found.page.answer(_packs(request), "no-cache")

    @app.get(PREFIX + "{version}/{name:path}", include_in_schema=False)
    async def static(version: str, name: str, request: Request) -> Response:
        """A file of the page's, kept by browsers for good: its address has its version."""
        return found.answer(version, name, _packs(request))


def _packs(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")
