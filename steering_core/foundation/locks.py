"""Locks between processes on one machine."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

HELD_LOCKS = Path("/proc/locks")  # each lock's process and file, on Linux
MOST_SHOWN = 120  # letters of a command
_LOOK = 0.01  # seconds between two tries to take a lock that is waited for with a bound


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold `path` for this process, alone or sharing it; the kernel frees it however the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with _opened(path, "a") as handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not shared:
                shown = path.parent.parent / path.name  # without the folder of locks
                log.info("%s is using %s; waiting until it is done", _holder(handle), shown)
            fcntl.flock(handle, kind)
        yield


def _holder(handle: IO[str]) -> str:
    """The process that has a file locked, with its command, where Linux tells; else `another process`."""
    try:
        held = [line.split() for line in HELD_LOCKS.read_text().splitlines() if "->" not in line]
        mine = os.fstat(handle.fileno())
        holders = [
            process for _, _, _, _, process, place, *_ in held if _is_of(mine, place, Path("/proc", process, "fd"))
        ]
        command = Path("/proc", holders[0], "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, LookupError, ValueError):  # no Linux, a process that has just ended, or one of another container
        return "another process"
    return f"process {holders[0]} ({command.strip()[:MOST_SHOWN]})"


def _is_of(file: os.stat_result, place: str, opened: Path) -> bool:
    """Whether a lock at `place`, `MAJOR:MINOR:INODE` with the device in hexadecimal, is on `file`.

    Another file system may have a file of the same inode. Where the device is another than the file's own, as on Btrfs
    and overlays for the same file, it counts if the process has the file among those in its folder `opened`.
    """
    major, minor, inode = place.split(":")
    if int(inode) != file.st_ino:
        return False
    if (int(major, 16), int(minor, 16)) == (os.major(file.st_dev), os.minor(file.st_dev)):
        return True
    with contextlib.suppress(OSError):  # a process of another user, or one that has just ended
        return any(os.path.samestat(file, one.stat()) for one in opened.iterdir() if one.exists())
    return False


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold `path` alone for this process if nobody holds it now; gives whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path, "a") as handle:
        yield _taken(handle)


@contextlib.contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Share `path`, an existing lock that this process need only be able to read."""
    with _opened(path, "r") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def locked_next(path: Path, turnstile: Path, seconds: float, busy: Exception) -> Iterator[None]:
    """Hold `path` alone, before everybody who asks to share it later (by `shared_in_turn`).

    The kernel lets sharers in while somebody waits to hold a file alone, so that with sharers coming all the time the
    wait would never end. Here the `turnstile` is held meanwhile, which sharers have to pass. Raises `busy` where those
    who share `path` already keep it for longer than `seconds`.
    """
    with locked(turnstile), _opened(path, "a") as handle:
        until = time.monotonic() + seconds
        while not _taken(handle):
            if time.monotonic() >= until:
                raise busy
            time.sleep(_LOOK)
        yield


def _opened(path: Path, mode: str) -> IO[str]:
    """The file of a lock, at once: a pipe in its place, in a store of somebody else's, would be waited for."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o666))


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def shared_in_turn(path: Path, turnstile: Path) -> Iterator[None]:
    """Share `path`, after everybody who already waits to hold it alone (`locked_next`).

    Both files must exist, and need only be readable. A thread that shares `path` must not ask to share it again: if
    another process has begun to wait for `path` in between, each would wait for the other for ever.
    """
    with contextlib.ExitStack() as held:
        with shared_lock(turnstile):
            held.enter_context(shared_lock(path))
        yield
