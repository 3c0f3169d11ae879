"""The cache folder: what can be made again, kept for every process of this user on this machine."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steering_core.foundation.errors import DiskFull, SettingError
from steering_core.foundation.locks import locked

_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_folder() -> Path:
    """`STEERFLOW_CACHE`, or `~/.cache/steerflow` (under `XDG_CACHE_HOME` where that is set)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STEERFLOW_CACHE") or Path(home, "steerflow"))


@contextlib.contextmanager
def cache_locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache folder for this process. Raises as `cache_written` does."""
    with contextlib.ExitStack() as held:
        with cache_written():
            held.enter_context(locked(cache_folder() / "locks" / name))
        yield


@contextlib.contextmanager
def cache_written() -> Iterator[None]:
    """Raise SettingError where the `with` may not use the cache folder, and DiskFull where that has no room.

    An OSError of a file elsewhere comes as it is.
    """
    try:
        yield
    except OSError as error:
        folder = cache_folder()
        if error.errno in _FULL:
            raise DiskFull(
                f"no room in the cache folder {folder} ({error.strerror}): free some space, or set STEERFLOW_CACHE to "
                "a folder on another disk, then run again"
            ) from error
        place = Path(os.fsdecode(error.filename)) if error.filename else None
        if place is None or not (place.is_relative_to(folder) or folder.is_relative_to(place)):
            raise
        raise SettingError(
            f"the cache folder {folder} cannot be used ({_why(error, place)}): have it made writable, or set "
            "STEERFLOW_CACHE to a folder of your own"
        ) from error


def _why(error: OSError, place: Path) -> str:
    """What the system says of a place in the cache folder, or the file that stands where a folder should be."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        for step in (place, *place.parents):
            if step.is_file():
                return f"{step} is a file"
    return str(error.strerror or error)


def keep_json(file: Path, data: Any) -> None:
    """Write `data` to `file` as JSON, whole or not at all; folders on the way are made. Raises OSError."""
    temporary = file.with_suffix(f".{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(data), encoding="utf-8")
    temporary.replace(file)
