"""Files that people name as output: reports, exports, charts and concepts are all written through here.

A pipe without a reader would be waited for, and a device would swallow what is written: each is an error instead, and
so is a name that no file can have. A file or a folder appears under its name when it is whole. What a killed process
left beside it is removed when the next one is written there.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from steering_core.foundation.errors import SteerflowError
from steering_core.foundation.user_files import shown_path


@contextlib.contextmanager
def new_file(path: Path, error: type[SteerflowError]) -> Iterator[Path]:
    """A temporary file of the same suffix, which takes the place of `path` at the end of the `with`, or disappears.

    Folders on the way are made; a link is followed. Raises `error` where no regular file can be written there.
    """
    try:
        target = writable_path(path, error)
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in _unfinished(target.parent, "", f"-{target.name}"):
            left.unlink(missing_ok=True)
        temporary = target.with_name(f".{os.getpid()}-{target.name}")
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as fault:
        raise error(f"{shown_path(path)} cannot be written ({fault.strerror or fault}): name another file") from None


@contextlib.contextmanager
def new_folder(path: Path, error: type[SteerflowError]) -> Iterator[Path]:
    """A folder beside `path`, which takes its name at the end of the `with`, or disappears.

    Unfinished folders of killed processes are removed. Raises `error` where `path` holds anything, or cannot be made.
    """
    try:
        str(path).encode()
        target = Path(os.path.realpath(path))
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise error(f"{shown_path(path)} is there already: name a folder that does not exist, or is empty")
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in _unfinished(target.parent, f"{target.name}.unfinished-", ""):
            shutil.rmtree(left, ignore_errors=True)
        folder = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
        folder.mkdir()
    except (OSError, ValueError) as fault:
        said = getattr(fault, "strerror", None) or "no name that a folder can have"
        raise error(f"{shown_path(path)} cannot be made ({said}): name another folder") from None
    try:
        yield folder
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unfinished(folder: Path, before: str, after: str) -> list[Path]:
    """What a process that has ended left in `folder`: names of a dot, `before`, the process's number and `after`.

    A process of this one's own number that left something has ended too. A folder whose names may not be read has none
    that could be removed.
    """
    name = re.compile(rf"\.{re.escape(before)}([0-9]+){re.escape(after)}")
    try:
        found = [(entry, name.fullmatch(entry.name)) for entry in folder.iterdir()]
    except PermissionError:
        return []
    numbers = [(entry, int(match[1])) for entry, match in found if match]
    return [entry for entry, process in numbers if process == os.getpid() or not runs(process)]


def runs(process: int) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def writable_path(path: Path, error: type[SteerflowError]) -> Path:
    """The path to which all links of `path` lead. Raises `error` where something else than a regular file is there."""
    try:
        os.fsencode(path)
        str(path).encode()
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise error(f"{shown_path(path)} cannot be written, it is a folder: name a file in it")
        target.lstat()
    except FileNotFoundError:
        return target
    except OSError as fault:
        raise error(f"{shown_path(path)} cannot be written ({fault.strerror or fault}): name another file") from None
    except ValueError:  # a zero byte, or half of a surrogate pair
        raise error(f"{shown_path(path)} is no name that a file can have") from None
    if not target.is_file():
        raise error(f"{shown_path(path)} cannot be written, it is a pipe or a device: name a regular file")
    return target


def write_text(path: Path, text: str, error: type[SteerflowError]) -> None:
    """Write a text to `path`, as UTF-8, whole or not at all. Raises `error` as `new_file` does."""
    with new_file(path, error) as temporary:
        temporary.write_text(text, encoding="utf-8")
