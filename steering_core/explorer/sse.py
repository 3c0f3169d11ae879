"""Server-sent events: JSON, one `data:` line each."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

from starlette.responses import StreamingResponse


def data_line(value: Any) -> str:
    """One event."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n"


def event_stream(events: AsyncIterable[Any], headers: Mapping[str, str] = MappingProxyType({})) -> StreamingResponse:
    """A response that sends each event when it comes."""

    async def lines() -> AsyncIterator[str]:
        async for event in events:
            yield data_line(event)

    own = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers={**own, **headers})
