"""The explorer's HTTP server: uvicorn, with bounds on how long a request may take to come, and on how many do at once.

uvicorn waits for a request's head for ever, and keeps every connection. `shield` bounds the body.
"""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # in which the head of a request must have come, on a connection that says nothing else
MAX_CONNECTIONS = 800  # mlx-lm's import leaves a process some 2,000 open files
TOLD = 100  # connections beyond those that are told so, when they ask; yet more are closed at once
TOLD_SECONDS = 1.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
    b'{"error": {"message": "%d connections are open already: close some, then try again", "type": "refused"}}'
    % MAX_CONNECTIONS
)


class _Patient(H11Protocol):
    """A connection that is closed where the head of its next request does not come in time."""

    _until_head: asyncio.TimerHandle | None = None
    _is_too_many = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless too many are open."""
        super().connection_made(transport)
        self._is_too_many = len(self.connections) > MAX_CONNECTIONS
        if len(self.connections) > MAX_CONNECTIONS + TOLD:
            transport.abort()
        else:
            self._wait_for_head(TOLD_SECONDS if self._is_too_many else HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Read on; the time for a head ends with the head."""
        if self._is_too_many:
            self.transport.write(_FULL)
            self.transport.close()
            return
        if self._until_head is None and self._between_requests():
            self._wait_for_head(HEAD_SECONDS)
        super().data_received(data)
        if not self._between_requests():
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_head(self, seconds: float) -> None:
        self._until_head = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._until_head is not None:
            self._until_head.cancel()
            self._until_head = None


def server(app: ASGIApp, **options: Any) -> uvicorn.Server:
    """A server of `app`; `options` are uvicorn's."""
    return uvicorn.Server(uvicorn.Config(app, http=_Patient, ws="none", log_level="warning", **options))
