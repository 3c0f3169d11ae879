"""The explorer when many come at once, or only half: each is answered, refused before its answer begins, or let go."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from steering_core.explorer import server, shield
from steering_core.explorer.accelerator import WAITING
from steering_core.explorer.app import explorer_app
from steering_core.store import Store
from tests.explorer import served, served_app


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("load") / "store")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/steer", {"prompt": "Hello", "chat": False, "compare": False, "max_tokens": 1}),
        ("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "stream": True}),
    ],
)
def test_a_stream_beyond_the_queues_room_is_told_so_in_its_status(
    empty: Store, tiny_folder: Path, path: str, body: dict[str, object]
) -> None:
    app = explorer_app(empty, models=[str(tiny_folder)])
    gate, many = threading.Event(), WAITING + 40
    statuses: list[int] = []
    told: list[tuple[int, str]] = []  # how each was answered, and the last that it was told

    def ask(address: str) -> None:
        with httpx.stream("POST", address + path, json={**body, "model": str(tiny_folder)}, timeout=60) as answer:
            statuses.append(answer.status_code)
            told.append((answer.status_code, answer.read().decode().strip().splitlines()[-1]))
            assert answer.status_code == 200 or answer.headers["retry-after"]

    with served_app(app) as address:
        app.state.explorer.accelerator.call("somebody", str(tiny_folder), lambda model: gate.wait(60))
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(many)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while statuses.count(429) < many - WAITING - 1 and time.monotonic() < deadline:
            time.sleep(0.05)  # an answer of /v1 has no status before its first token: only those refused are told
        gate.set()
        for thread in threads:
            thread.join()
    counted = Counter(statuses)
    assert counted == {200: WAITING, 429: 40} or counted == {200: WAITING + 1, 429: 39}, counted
    for status, end in told:
        finished = end == "data: [DONE]" or '"done"' in end
        assert finished if status == 200 else json.loads(end)["error"]["code"] == "Busy"


# -- half a request -----------------------------------------------------------------------------------------------


@pytest.fixture
def address(empty: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that waits for a second only."""
    monkeypatch.setattr(shield, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(server, "HEAD_SECONDS", 1.0)
    with served(empty) as address:
        yield address


def connected(address: str, sent: bytes, stack: ExitStack) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
    connection.sendall(sent)
    return connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


HEAD = b"POST /api/sql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
NO_HEAD = [b"", b"POST /api/sql HT", HEAD]
REFUSED = [
    HEAD + b"\r\n",
    HEAD + b'\r\n{"sql":',
    HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked") + b"\r\n5\r\n{",
]


@pytest.mark.parametrize("sent", NO_HEAD)
def test_a_connection_whose_head_does_not_come_is_closed(address: str, sent: bytes) -> None:
    started = time.monotonic()
    with ExitStack() as stack:
        connections = [connected(address, sent, stack) for _ in range(100)]
        assert {everything(connection) for connection in connections} == {b""}
    assert 0.5 < time.monotonic() - started < 10


@pytest.mark.parametrize("sent", REFUSED)
def test_a_request_whose_body_does_not_come_is_refused_and_closed(address: str, sent: bytes) -> None:
    started = time.monotonic()
    with ExitStack() as stack:
        connections = [connected(address, sent, stack) for _ in range(100)]
        for connection in connections:
            assert everything(connection).startswith(b"HTTP/1.1 408")
    assert 0.5 < time.monotonic() - started < 10


def test_a_body_that_drips_is_no_longer_waited_for(address: str) -> None:
    with ExitStack() as stack:
        connection = connected(address, HEAD + b"\r\n", stack)
        started = time.monotonic()
        connection.settimeout(0.2)
        said = b""
        while not said and time.monotonic() - started < 10:
            connection.sendall(b" ")
            try:
                said = connection.recv(100)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408")


def test_a_half_head_after_a_whole_request_is_not_waited_for_either(address: str) -> None:
    with ExitStack() as stack:
        connection = connected(address, b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", stack)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /api/status HT")
        started = time.monotonic()
        everything(connection)
        assert time.monotonic() - started < 10


def test_a_slow_answer_is_not_cut_by_the_time_for_a_request(address: str) -> None:
    """Two seconds of computing, where a request must come within one."""
    slow = "SELECT count(*) AS n FROM range(20_000_000) WHERE md5(range::VARCHAR) = 'x'"
    answer = httpx.post(f"{address}/api/sql", json={"sql": slow}, timeout=30)
    assert answer.status_code in (200, 400), answer.text
    assert answer.elapsed.total_seconds() > 1.0, "or this test shows nothing"


def test_open_connections_are_bounded(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)
    with served(empty) as address, ExitStack() as stack:
        for _ in range(20):
            connected(address, b"GET ", stack)
        time.sleep(0.5)
        said = everything(connected(address, b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", stack))
        assert said.startswith(b"HTTP/1.1 503")
        assert b"connections are open already" in said
