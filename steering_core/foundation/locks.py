"""Locks between processes on one machine."""

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold `path` for this process, alone or sharing it; the kernel frees it however the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not shared:
                log.info("waiting for another process that holds %s", path.name)
            fcntl.flock(handle, kind)
        yield


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold `path` alone for this process where nobody holds it now; whether that is so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Share `path`, a lock that is there and that this process may only read."""
    with path.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
