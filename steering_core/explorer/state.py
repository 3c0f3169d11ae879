"""What every route works with, and how rows go out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa
from fastapi import Depends, Request

from steering_core.explorer.accelerator import Accelerator
from steering_core.explorer.ask import Ask
from steering_core.explorer.batches import BatchSampling, Event, RequestedRows, SamplingJob
from steering_core.explorer.drafts import Drafts
from steering_core.explorer.kept import Kept
from steering_core.foundation.json_values import plain
from steering_core.models import Model
from steering_core.store import Store, values

TAB = "x-steerflow-tab"
_LOOK_UP = 0.5  # seconds between two looks whether anybody still listens


@dataclass(frozen=True)
class Explorer:
    """The store, the accelerator, the SQL box, what is kept of its answers, and vectors that are not saved yet.

    `wants_token` says whether requests must carry a token.
    """

    store: Store
    accelerator: Accelerator
    ask: Ask
    kept: Kept
    drafts: Drafts = field(default_factory=Drafts)
    wants_token: bool = False


def _explorer(request: Request) -> Explorer:
    found: Explorer = request.app.state.explorer
    return found


Here = Annotated[Explorer, Depends(_explorer)]


def client_of(request: Request) -> str:
    """Who asks: a tab of the page, or a connection."""
    peer = request.client
    return request.headers.get(TAB, "")[:64] or (f"{peer.host}:{peer.port}" if peer else "somebody")


async def sampled(
    explorer: Explorer, request: Request, sampling: BatchSampling, rows: Callable[[Model], RequestedRows]
) -> AsyncIterator[Event]:
    """Every event of a request's texts, to `done` or `error`. Its work ends when its client goes, or stops to iterate.

    Raises Busy where too many wait, before there is anything to iterate: an answer that has begun has its place.
    """
    events = _sampled(explorer, request, sampling, rows)
    first = await anext(events)  # `queued`; begun, the iterator also ends its work where nobody goes on with it
    return _from(first, events)


async def _from(first: Event, rest: AsyncGenerator[Event]) -> AsyncIterator[Event]:
    async with contextlib.aclosing(rest):
        yield first
        async for event in rest:
            yield event


async def _sampled(
    explorer: Explorer, request: Request, sampling: BatchSampling, rows: Callable[[Model], RequestedRows]
) -> AsyncGenerator[Event]:
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
    texts = SamplingJob(sampling, rows, lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
    explorer.accelerator.submit(client_of(request), texts)
    looked = time.monotonic()
    try:
        while True:
            if time.monotonic() - looked > _LOOK_UP:
                looked = time.monotonic()
                if await request.is_disconnected():
                    return
            try:
                event = await asyncio.wait_for(events.get(), _LOOK_UP)
            except TimeoutError:
                continue
            yield event
            if event["event"] in ("done", "error"):
                return
    finally:
        explorer.accelerator.cancel(texts)


async def called(explorer: Explorer, request: Request, model: str, function: Callable[[Model], Any]) -> Any:
    """The result of `function` of an open model, on the accelerator's thread."""
    return await asyncio.wrap_future(explorer.accelerator.call(client_of(request), model, function))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of an Arrow table as JSON has them."""
    return [plain(row) for row in values.rows_of(table)]
