"""The server as `make up` runs it: Prefect's own, behind a guard that turns foreign web pages away.

A server on loopback is within reach of every page that the machine's browser shows. Prefect's password keeps such pages
from running flows; the guard refuses their requests before Prefect sees them. It compares the whole `Host`, so that
somebody else's name that resolves to this machine is refused, and the whole `Origin`, which a browser sets and a page
cannot change.
"""

import os
from collections.abc import Iterable
from typing import Any

import httpx
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.service.database import begin_ready_to_write
from flows.service.loopback import LOOPBACK

POLICY_VIOLATION = 1008  # a websocket's code for "not allowed"; sent before the handshake, it becomes HTTP 403


class Guard:
    """ASGI middleware that answers under `hosts` only, and only pages that came from them.

    No page may show the server's own in a frame, where its buttons could be pressed unseen.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(f"{scheme}://{host}" for host in self._hosts for scheme in ("http", "https"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 403."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif fault := self._fault(scope):
            await _refuse(fault, scope, receive, send)
        else:
            await self._app(scope, receive, _unframed(send))

    def _fault(self, scope: Scope) -> str | None:
        hosts = [_text(value) for name, value in scope["headers"] if name == b"host"]
        origins = [_text(value) for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return f"this server does not go by the name {', '.join(hosts)!r}: STEERFLOW_SERVER_HOSTS adds names"
        if any(origin not in self._origins for origin in origins):
            return f"pages of {', '.join(origins)!r} may not use this server"
        return None


def _text(value: bytes) -> str:
    return value.decode("latin-1").lower()


async def _refuse(why: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": why[:100]})
    else:
        await PlainTextResponse(f"{why}\n", status_code=403)(scope, receive, send)


def _unframed(send: Send) -> Send:
    async def sent(message: Message) -> None:
        """Send a message on; the one that begins a response also forbids frames."""
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"content-security-policy", b"frame-ancestors 'none'")]
            message = {**message, "headers": headers}
        await send(message)

    return sent


def own_hosts(api: str) -> list[str]:
    """The values of `Host` under which the server at `api` may be asked, those of STEERFLOW_SERVER_HOSTS among them."""
    url = httpx.URL(api)
    names = [f"[{name}]" if ":" in name else name for name in dict.fromkeys((url.host, *LOOPBACK))]
    port = url.port or (443 if url.scheme == "https" else 80)
    bare = names if port in (80, 443) else []
    added = [name.strip() for name in os.environ.get("STEERFLOW_SERVER_HOSTS", "").split(",") if name.strip()]
    return [*(f"{name}:{port}" for name in names), *bare, *added]


def guarded_app() -> Any:
    """Prefect's server, guarded, for uvicorn's `--factory`."""
    begin_ready_to_write()
    return Guard(create_app(final=True), own_hosts(str(get_current_settings().api.url)))
