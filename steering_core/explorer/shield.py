"""Shield: what stands before every request. Other origins, other hosts' names, and strangers are turned away.

A page on another site must not reach a server on loopback: its requests carry its origin or, where it has an image or
a script loaded, the browser's word (`Sec-Fetch-Site`) that another site asks. Nor may a name that was re-bound to
127.0.0.1 (its requests carry that name as host). Beyond loopback a token is demanded.
"""

import asyncio
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20
BODY_SECONDS = 10.0  # in which a body must have come
_TOO_LARGE = f"the request is beyond {MAX_BODY >> 20} MiB: send less at once"
COOKIE = "steerflow-token"
TOKEN_FROM = "STEERFLOW_TOKEN"  # the variable from which copied commands read the token; no page is told the token
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
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
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        fault = (400, "give one Host header") if len(hosts) > 1 else self._fault(scope, headers)
        if fault:
            return await _refuse(send, *fault)
        if self._token and (given := _query_token(scope)):
            return await self._welcome(send, given)
        if self._token and not self._knows(headers):
            return await _refuse(send, 401, "this explorer wants its token: open the address that it printed, or send "
                                 "it as `Authorization: Bearer TOKEN`")  # fmt: skip
        body = _Bounded(receive, BODY_SECONDS)

        begun = False

        async def guarded_send(message: Message) -> None:
            """Send a message on with the headers of every answer; nothing after a body was torn."""
            nonlocal begun
            if body.fault and not begun:  # the application saw a torn body: what it says to that is of no use
                return
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self._app(scope, body.receive, guarded_send)
        if body.fault and not begun:
            await _refuse(send, *body.fault, close=True)
        return None

    def _fault(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = host_name(host)
        if self._token is None and name not in LOOPBACK:
            return 421, f"this explorer serves loopback alone, not {host[:200]!r}: start it with --host for others"
        if not name:
            return 400, f"the Host header {host[:200]!r} names no host: give NAME or NAME:PORT"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return 403, "requests from other origins are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not _opens(scope, headers):
            return 403, "requests from other sites are refused, but for a link to the page itself"
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,12}", length) or int(length) > MAX_BODY:
            return 413, _TOO_LARGE
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
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        start = {"type": "http.response.start", "status": 303}
        await send({**start, "headers": [(b"location", b"/"), (b"set-cookie", cookie.encode()), *HEADERS]})
        await send({"type": "http.response.body", "body": b""})
        return None


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def host_name(host: str) -> str:
    """The whole name in a Host header, in small letters and without its port; empty where the header names none."""
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return ""
    return found["name"].lower().strip("[]")


def _opens(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a browser follows a link to the page: that does no work, and what it loads then is of this origin."""
    return scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"


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
    """A request's body that ends where it grows or lasts beyond the bounds; nothing may be sent before it was read."""

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive, self._size, self._whole = receive, 0, False
        self._until = asyncio.get_running_loop().time() + seconds
        self.fault: tuple[int, str] | None = None

    async def receive(self) -> Message:
        """The next part of the body, or its end where it is too large or too slow."""
        if self._whole:  # what comes now is that the client has gone, whenever it does
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return self._torn(408, f"the request's body had not come after {BODY_SECONDS:g} s: send it whole")
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY:
            return self._torn(413, _TOO_LARGE)
        self._whole = not message.get("more_body", False)
        return message

    def _torn(self, status: int, why: str) -> Message:
        self.fault = self.fault or (status, why)
        return {"type": "http.request", "body": b"", "more_body": False}


async def _refuse(send: Send, status: int, why: str, close: bool = False) -> None:
    """Say why, in the form of the API's errors; `close` where the rest of the request will not be read."""
    body = json.dumps({"error": {"message": why, "type": "refused"}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    headers += [(b"connection", b"close")] * close
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
