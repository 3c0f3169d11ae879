"""Server-sent events: JSON, one `data:` line each."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from starlette.responses import StreamingResponse

from steering_core.foundation.json_values import plain


def data_line(value: Any) -> str:
    """One event; numbers that JSON lacks, as an overflown stream has them, are null."""
    text = value if isinstance(value, str) else _written(value)
    return f"data: {text}\n\n"


def _written(value: Any) -> str:
    write = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return write(value)
    except ValueError:  # the rare event; the others are not copied
        return write(plain(value))


def event_stream(events: AsyncIterable[Any], headers: Mapping[str, str] = MappingProxyType({})) -> StreamingResponse:
    """A response that sends each event when it comes."""

    async def lines() -> AsyncIterator[str]:
        """Each event as a line of data."""
        async for event in events:
            yield data_line(event)

    own = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers={**own, **headers})
