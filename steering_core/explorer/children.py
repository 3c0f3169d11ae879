"""`Children`: the processes that answer strangers' SQL, watched, and killed when they take too much.

Each holds a memory limit of the operating system's (`box`). macOS enforces none, so the size of a process that answers
is also looked at from here, every few hundredths of a second, on every system. Time is measured here alone.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Literal

from steering_core.explorer.box import INSTEAD, MAX_BYTES, MAX_QUESTION, BoxReply, shown_size
from steering_core.explorer.queue import Busy
from steering_core.explorer.resident import held_by
from steering_core.explorer.table_forms import TableForm
from steering_core.foundation.errors import QueryError

log = logging.getLogger(__name__)

AT_ONCE = 2
WAITING = 8  # more are told at once to come back; each holds a thread of the server
_LOOK = 0.02  # seconds between two looks at a process that answers; 2 GB are written in some 0.5 s
_START = 60.0  # seconds that a process may take to open the store
# Allocators that reserve addresses by the gigabyte would use up a limit of the address space without using memory.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
_SLACK = 512 << 20  # bytes beyond what it may take: what it took to start, and what RLIMIT_AS refuses first


class Child:
    """One process over one store; it takes one question at a time."""

    def __init__(self, store: str, memory: int, seconds: float) -> None:
        self._memory, self._seconds = memory, seconds
        self._stopped: Literal["time", "memory"] | None = None
        self._ready = self._spent = False
        self._channel, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "steering_core.explorer.box", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # Ctrl-C is for the server
        )
        theirs.close()
        self._channel.send_bytes(json.dumps({"store": store, "memory": memory, "seconds": seconds}).encode())

    @property
    def fit(self) -> bool:
        """Whether it can take another question."""
        return not self._spent and self._process.poll() is None

    def ask(self, sql: str, max_rows: int, form: TableForm) -> tuple[BoxReply, bytes]:
        """The reply, and the rows of an answer. Raises QueryError where the process had to be ended."""
        try:
            with self._watched(_START):
                self._begin()
            with self._watched(self._seconds):
                question = {"sql": sql, "max_rows": max_rows, "form": form}
                self._channel.send_bytes(json.dumps(question).encode())
                reply = BoxReply.unpacked(self._channel.recv_bytes(MAX_QUESTION))
                self._spent = reply.spent
                return reply, self._channel.recv_bytes(MAX_BYTES) if reply.kind == "answer" else b""
        except (EOFError, ConnectionError) as error:
            raise QueryError(self._why_it_ended()) from error

    def _begin(self) -> None:
        if not self._ready:
            reply = BoxReply.unpacked(self._channel.recv_bytes(MAX_QUESTION))
            if reply.kind != "ready":
                self._spent = True  # it ends now, and may take a moment to
                raise QueryError(reply.message)
            self._ready = True

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the process where the `with` takes longer, or the process more memory than it may."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done, time.monotonic() + seconds), daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, done: threading.Event, deadline: float) -> None:
        allowed = self._memory + _SLACK
        while not done.wait(_LOOK):
            if time.monotonic() > deadline:
                self._stopped = "time"
            elif held_by(self._process.pid) > allowed:
                self._stopped = "memory"
            else:
                continue
            self._process.kill()
            return

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if self._stopped == "time":
            what = "it took so long to open the store" if not self._ready else f"stopped after {self._seconds:g} s"
            return f"{what}: {INSTEAD}"
        if self._stopped == "memory":
            return f"the query needs more than {shown_size(self._memory)} of memory: {INSTEAD}"
        log.warning("a process that answered SQL ended by itself, with code %d", code)
        return f"the query ended the process that answered it, for want of memory or by its depth: {INSTEAD}"

    def kill(self) -> None:
        """End it at once; whoever waits for its reply is told."""
        self._process.kill()

    def end(self) -> None:
        """End it at once and forget it; nobody may wait for it."""
        self._process.kill()
        self._process.wait()
        self._channel.close()


class Children:
    """Up to `AT_ONCE` processes, one of them warm from the start; safe to use from several threads."""

    def __init__(self, store: str, memory: int, seconds: float) -> None:
        self._store, self._memory, self._seconds = store, memory, seconds
        self._room = threading.BoundedSemaphore(AT_ONCE + WAITING)
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._changing = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False
        self._give_back(self._new())

    def ask(self, sql: str, max_rows: int, form: TableForm) -> tuple[bool, bytes]:
        """Whether there were more than `max_rows` rows, and the rows in that form.

        Raises QueryError for what is refused or takes too much, Busy where others ask already.
        """
        with self._turn(), self._one() as child:
            reply, content = child.ask(sql, max_rows, form)
        if reply.kind == "refused":
            raise QueryError(reply.message)
        if reply.kind == "fault":
            log.error("a question to the SQL box failed: %s", reply.message)
            raise QueryError(f"something went wrong with this query; the server's log has the details: {INSTEAD}")
        return reply.cut, content

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise Busy(f"{AT_ONCE + WAITING} questions to the SQL box run or wait already: try again in a moment")
        try:
            if not self._turns.acquire(timeout=self._seconds):
                raise Busy(f"the SQL box was busy with other questions for {self._seconds:g} s: try again in a moment")
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _one(self) -> Iterator[Child]:
        """A process of one's own; another is started in the place of one that is spent, before anybody asks for it."""
        with self._changing:
            child = self._idle.pop() if self._idle else None
        child = child or self._new()
        try:
            yield child
        finally:
            if child.fit:
                self._give_back(child)
            else:
                self._discard(child)
                self._give_back(self._new())

    def _new(self) -> Child:
        child = Child(self._store, self._memory, self._seconds)
        with self._changing:
            self._all.add(child)
        return child

    def _give_back(self, child: Child) -> None:
        with self._changing:
            if not self._closed:
                self._idle.append(child)
                return
        self._discard(child)

    def _discard(self, child: Child) -> None:
        child.end()
        with self._changing:
            self._all.discard(child)

    def close(self) -> None:
        """End all of them, in the middle of a question too."""
        with self._changing:
            self._closed = True
            answering, idle = self._all.difference(self._idle), self._idle
            self._all, self._idle = set(answering), []
        for child in answering:
            child.kill()
        for child in idle:
            child.end()
