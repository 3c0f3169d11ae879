"""The explorer as an ASGI application: the API under /api, the OpenAI-compatible one under /v1, and the page."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from steering_core import __version__
from steering_core.errors import ModelNotFound, SteerflowError, VectorNotFound
from steering_core.explorer.accelerator import Accelerator, Busy
from steering_core.explorer.ask import Ask
from steering_core.explorer.models import OpenModels
from steering_core.explorer.routes import ask, library, look, openai, steer
from steering_core.explorer.shield import Shield
from steering_core.explorer.state import Explorer
from steering_core.store import Store

STATIC = Path(str(package_files("steering_core.explorer"))) / "static"
_STATUS = {ModelNotFound: 404, VectorNotFound: 404, Busy: 429}


def explorer_app(store: Store, models: Sequence[str] = (), token: str | None = None) -> FastAPI:
    """The application over `store`; requests may also name `models`, and must carry `token` where one is given."""
    box = Ask(store)
    explorer = Explorer(store, Accelerator(OpenModels(box, models)), box)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        explorer.accelerator.start()
        yield
        explorer.accelerator.stop()
        explorer.ask.close()

    app = FastAPI(
        title="steerflow explorer",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.explorer = explorer
    for router in (steer.router, library.router, look.router, ask.router):
        app.include_router(router, prefix="/api")
    app.include_router(openai.router, prefix="/v1")
    app.add_exception_handler(SteerflowError, _told)
    app.add_exception_handler(RequestValidationError, _faults)
    app.add_middleware(Shield, token=token)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    return app


def _told(request: Request, error: Exception) -> JSONResponse:
    """A mistake in one paragraph, as the command line tells it."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
    body = {"message": str(error), "type": "invalid_request_error", "code": type(error).__name__}
    return JSONResponse({"error": body}, status_code=status)


def _faults(request: Request, error: Exception) -> JSONResponse:
    """Every fault of a request at once, each with its place."""
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, f['loc'][1:])) or 'the request'}: {_says(f['msg'])}" for f in error.errors()]
    body = {"message": "; ".join(lines), "type": "invalid_request_error", "code": "InvalidRequest"}
    return JSONResponse({"error": body}, status_code=422)


def _says(message: str) -> str:
    return message.removeprefix("Value error, ")
