"""A watchdog for tests of memory bombs: no process that the tests start may hold more than it allows."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from steering_core.explorer.resident import held_by


@dataclass
class Watched:
    """The most that one process held, in bytes, and those that were killed for holding too much."""

    peak: int = 0
    killed: list[int] = field(default_factory=list)


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started, but those still on their way to another program, in its own memory."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            found += [int(child) for child in listed.read_text().split()]
    return [child for child in found if _words(child) != _words(pid)]


def _words(pid: int) -> bytes:
    """The command line of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def watchdog(limit: int) -> Iterator[Watched]:
    """Kill every child of this process that holds more than `limit` bytes, and fail the test."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("only Linux lists a process's children")
    watched, done = Watched(), threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            for child in children_of(os.getpid()):
                held = held_by(child)
                watched.peak = max(watched.peak, held)
                if held > limit:
                    watched.killed.append(child)
                    os.kill(child, signal.SIGKILL)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        done.set()
        thread.join()
    assert not watched.killed, f"a process held {watched.peak >> 20} MiB"
