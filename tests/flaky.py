"""A proxy before an HTTP server that fails as object stores do: answers 500 or 403, a reset, half a body."""

import http.client
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
Fault = Callable[[int, str, str], str | None]  # (number of the request, method, path) -> what goes wrong, if anything


@contextmanager
def flaky(port: int, fault: Fault) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The URL of a proxy to that port of this machine, and the requests (method, path) that it has seen.

    `fault` says what becomes of each: "500", "403", "reset" (before an answer), "cut" (within one), or None.
    """
    seen: list[tuple[str, str]] = []
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def forward(self) -> None:
            """Answer as the server does, or as the fault has it."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path))
            wrong = fault(next(numbers), self.command, self.path)
            if wrong == "reset":
                self.reset()
            elif wrong in ("500", "403"):
                code, text = ("InternalError", "try again") if wrong == "500" else ("InvalidAccessKeyId", "unknown key")
                self.say(int(wrong), [], ERROR.format(code=code, message=text).encode())
            else:
                self.pass_on(body, cut=wrong == "cut")

        def pass_on(self, body: bytes, cut: bool) -> None:
            """What the server answers; half of its body, and a reset, where it is cut."""
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            kept = [
                (k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection", "date")
            ]
            connection.close()
            if not cut or len(content) < 2:
                self.say(answer.status, kept, content)
                return
            self.say(answer.status, kept, content, upto=len(content) // 2)
            self.reset()

        def say(self, status: int, headers: list[tuple[str, str]], content: bytes, upto: int | None = None) -> None:
            """Send an answer, its content up to there."""
            self.send_response(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[:upto])

        def reset(self) -> None:
            """Close the connection as a machine that went away does."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
