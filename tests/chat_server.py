"""A chat-completions server of OpenAI's form on this machine, which answers as a test says, or misbehaves."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Reply = tuple[int, dict[str, str], Any]
"""Status, headers, and what is sent as JSON (text as it is)."""


def said(text: str, finish: str = "stop", **more: Any) -> Reply:
    """A chat completion that says `text`."""
    return 200, {}, {"choices": [{"message": {"content": text}, "finish_reason": finish}], **more}


@dataclass
class ChatServer:
    """`answer` gets a request's body and how many came before it; `asked` holds path, key and body of each."""

    answer: Callable[[dict[str, Any], int], Reply]
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def chat_server(answer: Callable[[dict[str, Any], int], Reply]) -> Iterator[ChatServer]:
    """A running server."""
    state = ChatServer(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            before = len(state.asked)
            state.asked.append((self.path, self.headers.get("Authorization"), body))
            status, headers, content = state.answer(body, before)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((content if isinstance(content, str) else json.dumps(content)).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}/v1/"
        try:
            yield state
        finally:
            running.shutdown()
            thread.join()
