"""Files that people name as input: specs, concepts, prompts, vectors and methods are all opened through here.

Only a regular file of bounded size is read. A pipe would be waited for, and a device or a file that grows without end
would fill the memory: each is an error instead, and so is a name that no file system takes.
"""

import contextlib
import difflib
import itertools
import os
import stat
from pathlib import Path

from steering_core.foundation.errors import SteerflowError

MAX_PROMPTS_FILE = 64 << 20  # bytes
MAX_CODE = 4 << 20  # bytes of a file of methods
MAX_VECTORS_FILE = 4 << 30  # bytes; some ten thousand layers of the widest models
MAX_LISTED = 10_000  # names of a folder that are looked at for one that somebody meant
_PIECE = 8 << 20  # bytes read at once
_NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer is opened at once, and then refused


def checked_file(path: Path, error: type[SteerflowError], most: int) -> Path:
    """`path`, for a library that opens it itself. Raises `error` unless it is a regular file of up to `most` bytes."""
    with contextlib.closing(_UserFile(path, error, most)):
        return path


def file_bytes(path: Path, error: type[SteerflowError], most: int) -> bytes:
    """The contents of a regular file of up to `most` bytes. Raises `error` for anything else."""
    with contextlib.closing(_UserFile(path, error, most)) as opened:
        return opened.read()


def file_text(path: Path, error: type[SteerflowError], most: int) -> str:
    """The text of a UTF-8 file of up to `most` bytes, without a byte order mark. Raises `error` for anything else."""
    try:
        return file_bytes(path, error, most).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is not UTF-8 (byte {fault.start}): save it as UTF-8") from None


def is_file(name: str | Path) -> bool:
    """Whether there is a regular file of that name; False for a name that no file could have."""
    return os.path.isfile(name)  # noqa: PTH113  (Path.is_file raises OSError for a name that is too long)


def near_file(path: Path) -> Path | None:
    """The file of the same folder whose name is nearest to that of `path`; None where none is near."""
    with contextlib.suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        found = [Path(entry) for entry in itertools.islice(entries, MAX_LISTED) if entry.is_file()]
        by_stem = {one.stem: one for one in sorted(found, key=lambda one: one.suffix == path.suffix)}
        return next((by_stem[stem] for stem in difflib.get_close_matches(path.stem, by_stem, n=1)), None)
    return None


def is_folder(name: str | Path) -> bool:
    """Whether there is a folder of that name; False for a name that no folder could have."""
    return os.path.isdir(name)  # noqa: PTH112  (as above)


def home_expanded(name: str) -> Path:
    """The path `name`, with `~` and `~user` for home folders; as it stands where there is no such user."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  (Path.expanduser raises RuntimeError)


class _UserFile:
    """A regular file, open for reading; closed again where it is none, or larger than allowed."""

    def __init__(self, path: Path, error: type[SteerflowError], most: int) -> None:
        self._path, self._error, self._most = path, error, most
        try:
            self._descriptor = os.open(path, os.O_RDONLY | _NOT_BLOCKING)
        except FileNotFoundError as fault:
            near = near_file(path)
            meant = f"; did you mean {str(near)!r}?" if near else ""
            raise error(f"{shown_path(path)} cannot be read: {fault.strerror}{meant}") from None
        except OSError as fault:
            raise error(f"{shown_path(path)} cannot be read: {fault.strerror or fault}") from None
        except ValueError:  # a zero byte, or half of a surrogate pair
            raise error(f"{shown_path(path)} is no name that a file can have") from None
        try:
            self._check(os.fstat(self._descriptor))
        except SteerflowError:
            self.close()
            raise

    def read(self) -> bytes:
        """All of it. Raises the error where there is more than the file's size said, as under /proc."""
        try:
            found = bytearray()
            while len(found) <= self._most and (piece := os.read(self._descriptor, _PIECE)):
                found += piece
        except OSError as fault:
            raise self._error(f"{shown_path(self._path)} cannot be read: {fault.strerror or fault}") from None
        if len(found) > self._most:
            raise self._error(self._too_large())
        return bytes(found)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _check(self, about: os.stat_result) -> None:
        if stat.S_ISDIR(about.st_mode):
            raise self._error(f"{shown_path(self._path)} is a folder, not a file: name one file in it")
        if not stat.S_ISREG(about.st_mode):
            raise self._error(f"{shown_path(self._path)} is no regular file: save what it gives in one, and name that")
        if about.st_size > self._most:
            raise self._error(self._too_large())

    def _too_large(self) -> str:
        size = f"{self._most >> 20:,} MB" if self._most >> 20 else f"{self._most:,} bytes"
        return f"{shown_path(self._path)} is larger than {size}, the most that is read of such a file: cut it first"


def shown_path(path: Path) -> str:
    """The path as messages show it: what cannot be printed is escaped, and a very long one is cut."""
    text = str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= 300 else f"{text[:200]}… ({len(text):,} letters)"
