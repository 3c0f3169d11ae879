"""Shield: what stands before every request. Other origins, other hosts' names, and strangers are turned away.

A page on another site must not reach a server on loopback (its requests carry its origin), nor may a name that was
re-bound to 127.0.0.1 (its requests carry that name as host). Beyond loopback a token is demanded.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20
COOKIE = "steerflow-token"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Shield:
    """ASGI middleware; `token` is demanded where one is given, and host names are then anybody's."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fault = self._fault(scope, headers)
        if fault:
            return await _refuse(send, *fault)
        if self._token and (given := _query_token(scope)):
            return await self._welcome(send, given)
        if self._token and not self._knows(headers):
            return await _refuse(send, 401, "this explorer wants its token: open the address that it printed, or send "
                                 "it as `Authorization: Bearer TOKEN`")  # fmt: skip
        body = _Bounded(receive)

        async def guarded_send(message: Message) -> None:
            if body.too_large:  # the application saw a torn body: what it says to that is of no use
                return
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self._app(scope, body.receive, guarded_send)
        if body.too_large:
            await _refuse(send, 413, f"the request is beyond {MAX_BODY >> 20} MiB")
        return None

    def _fault(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._token is None and _name(host) not in LOOPBACK:
            return 421, f"this explorer serves loopback alone, not {host!r}: start it with --host for others"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests from other origins are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and scope["method"] != "GET":
            return 403, "requests from other sites are refused"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return 413, f"the request is beyond {MAX_BODY >> 20} MiB"
        if scope["method"] == "POST" and not headers.get("content-type", "").startswith("application/json"):
            return 415, "send JSON, with `Content-Type: application/json`"
        return None

    def _knows(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the token, as a bearer or in the page's cookie."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = _cookie(headers.get("cookie", ""))
        return self._is_token(given)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.strip().encode(), (self._token or "").encode())

    async def _welcome(self, send: Send, given: str) -> None:
        """Put the token of the printed address into a cookie, and take it out of the address."""
        if not self._is_token(given):
            return await _refuse(send, 401, "that is not this explorer's token")
        cookie = f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
        start = {"type": "http.response.start", "status": 303}
        await send({**start, "headers": [(b"location", b"/"), (b"set-cookie", cookie.encode()), *HEADERS]})
        await send({"type": "http.response.body", "body": b""})
        return None


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    return urlsplit(f"//{host}").hostname or "" if host and "@" not in host else ""


def _query_token(scope: Scope) -> str:
    if scope["method"] != "GET" or scope["path"] != "/":
        return ""
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:  # not a cookie at all: then it is not the token either
        return ""
    return found.value if found else ""


class _Bounded:
    """A request's body that ends where it grows beyond the bound; nothing may be sent before it was read."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._size = receive, 0
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY:
            self.too_large = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return message


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": {"message": why, "type": "refused"}}).encode()
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(b"content-type", b"application/json"), *HEADERS]})
    await send({"type": "http.response.body", "body": body})
