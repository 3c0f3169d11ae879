"""Deadlines for Python code that nobody here wrote, such as a chat template that loops.

One thread watches all of them, so that a deadline costs microseconds. It raises `DeadlinePassed` inside the code that
runs too long; a single call into C is not interrupted, only what follows it.
"""

import contextlib
import ctypes
import itertools
import threading
import time
from collections.abc import Iterator

_STEP = 0.25  # seconds between two looks

_running: dict[int, tuple[int, float]] = {}  # by the deadline's number: its thread, and when its time is up
_numbers = itertools.count()
_lock = threading.Lock()
_begun = threading.Event()


class DeadlinePassed(BaseException):
    """Code ran longer than it was given. A BaseException, so that the code's own handlers let it through."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise DeadlinePassed inside the `with` once it has run for `seconds`."""
    _watch()
    number = next(_numbers)
    with _lock:
        _running[number] = (threading.get_ident(), time.monotonic() + seconds)
    _begun.set()
    try:
        yield
    finally:
        with _lock:  # once it is out of `_running`, nothing is raised for it
            _running.pop(number, None)


def _watch() -> None:
    """Have the watching thread run; a forked process begins one of its own."""
    if not any(thread.name == "deadlines" for thread in threading.enumerate()):
        threading.Thread(target=_look, name="deadlines", daemon=True).start()


def _look() -> None:
    while True:
        _begun.wait()
        with _lock:
            if not _running:
                _begun.clear()
            passed = [number for number, (_, end) in _running.items() if time.monotonic() > end]
            for number in passed:
                thread, _ = _running.pop(number)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(DeadlinePassed))
        time.sleep(_STEP)
