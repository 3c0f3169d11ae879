"""The Hugging Face hub's HTTP API on loopback, as far as its client asks for models, with faults on demand.

A file is kept by its sha1 in git, or by its sha256 outside where it carries weights; a second port serves the latter,
as the hub's storage is another host.
"""

import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".pkl")
CHUNK = 4096


@dataclass
class Repository:
    """Commits of one model, by branch or tag, and who may read it."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None  # that reads it; without it the repository is gated
    private: bool = False

    def commit(self, folder: Path, ref: str = "main", **changed: bytes) -> str:
        """Commit a folder's files, some of them changed; the commit's hash."""
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()} | changed
        name = hashlib.sha1(
            repr(sorted((n, hashlib.sha1(b).hexdigest()) for n, b in files.items())).encode()
        ).hexdigest()
        self.commits[name], self.refs[ref] = files, name
        return name


@dataclass
class Hub:
    """The server's repositories, the faults it is to commit, and what it was asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next large files' connections are cut
    reset: bool = False  # cut with a reset, not with an early end
    statuses: list[int] = field(default_factory=list)  # answers to the next requests for large files
    ignores_ranges: bool = False
    damages: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)  # bytes of large files
    ranges: list[str] = field(default_factory=list)
    tokens_at_storage: list[str] = field(default_factory=list)
    endpoint: str = ""
    storage: str = ""

    def asked_for(self, part: str) -> int:
        """How many requests had `part` in their path."""
        return sum(part in path for _, path in self.requests)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that runs until the block ends."""
    hub = Hub()
    servers = [_server(_Api, hub), _server(_Storage, hub)]
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _server(handler: type[BaseHTTPRequestHandler], hub: Hub) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        raise NotImplementedError


class _Api(_Handler):
    """api/models/…, and resolve/… with its headers."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        repository = self.hub.repositories.get(f"{owner}/{name}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token == "stale":
            self._answer(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repository is None or (repository.private and token != repository.token):
            self._answer(401 if not token else 404, headers={"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/"):
            self._api(f"{owner}/{name}", repository, rest)
        else:
            self._resolve(repository, rest[1:], token)

    def _api(self, name: str, repository: Repository, rest: list[str]) -> None:
        kind, ref = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
        commit = repository.refs.get(ref, ref)
        files = repository.commits.get(commit)
        if files is None:
            self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            rows = [{"type": "file", "path": n, **_entry(n, body)} for n, body in files.items()]
            self._json(rows)
        else:
            blobs = "blobs=" in (urlsplit(self.path).query or "")
            siblings = [{"rfilename": n} | (_sibling(n, body) if blobs else {}) for n, body in files.items()]
            self._json({"id": name, "sha": commit, "siblings": siblings})

    def _json(self, body: Any) -> None:
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: Repository, rest: list[str], token: str) -> None:
        commit = repository.refs.get(rest[0], rest[0])
        files, name = repository.commits.get(commit), "/".join(rest[1:])
        if files is None:
            self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif name not in files:
            self._answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif repository.token and not token:
            self._answer(401, headers={"X-Error-Code": "GatedRepo"})
        elif repository.token and token != repository.token:
            self._answer(403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "not in the authorized list"})
        else:
            self._file(name, files[name], commit)

    def _file(self, name: str, body: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_key(name, body)}"'}
        if not name.endswith(LARGE):
            self._answer(200, body, headers)
            return
        headers |= {"X-Xet-Hash": _key(name, body), "X-Xet-Refresh-Route": f"{self.hub.endpoint}/api/xet-token"}
        headers |= {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{_key(name, body)}"'}
        self._answer(302, headers=headers | {"Location": f"{self.hub.storage}/{commit}/{name}"})


class _Storage(_Handler):
    """Large files, with ranges and faults."""

    def do_GET(self) -> None:
        hub = self.hub
        commit, name = self.path.strip("/").split("/", 1)
        body = next(r.commits[commit][name] for r in hub.repositories.values() if commit in r.commits)
        if sent := self.headers.get("Authorization"):
            hub.tokens_at_storage.append(sent)
        if hub.statuses:
            self._answer(hub.statuses.pop(0))
            return
        asked = self.headers.get("Range")
        hub.ranges.append(asked or "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not hub.ignores_ranges else 0
        if hub.damages:
            body = bytes(reversed(body))
        self._send(name, body, start)

    def _send(self, name: str, body: bytes, start: int) -> None:
        hub, rest = self.hub, body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = hub.cut_after.pop(0) if hub.cut_after else len(rest)
        for at in range(0, min(cut, len(rest)), CHUNK):
            piece = rest[at : min(at + CHUNK, cut)]
            self.wfile.write(piece)
            hub.served[name] = hub.served.get(name, 0) + len(piece)
        if cut < len(rest):
            self._cut()

    def _cut(self) -> None:
        """Break the connection off: a plain end, or a reset."""
        self.close_connection = True
        if self.hub.reset:
            time.sleep(0.1)  # a reset takes back what still waits to be sent
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())


def _key(name: str, body: bytes) -> str:
    kind = hashlib.sha256 if name.endswith(LARGE) else hashlib.sha1
    return kind(body).hexdigest()


def _entry(name: str, body: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"oid": hashlib.sha1(body).hexdigest(), "size": len(body)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": _key(name, body), "size": len(body), "pointerSize": 134}
        entry["xetHash"] = _key(name, body)
    return entry


def _sibling(name: str, body: bytes) -> dict[str, Any]:
    sibling: dict[str, Any] = {"blobId": hashlib.sha1(body).hexdigest(), "size": len(body)}
    if name.endswith(LARGE):
        sibling["lfs"] = {"sha256": _key(name, body), "size": len(body), "pointerSize": 134}
    return sibling
