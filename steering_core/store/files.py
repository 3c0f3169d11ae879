"""A store's folder on this machine's file system (`folder.Folder`); one in an object store is in `objects`.

Files are immutable: written to a temporary name, flushed, published by rename. Killed at any moment, a folder holds
only whole files; a temporary one that was left is swept by `steer store verify`.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.foundation.errors import DiskFull, StoreBusy, StoreError
from steering_core.foundation.locks import locked, locked_next, shared_in_turn, shared_lock, try_locked
from steering_core.foundation.output_files import runs
from steering_core.store.names import LOCKS, MARKER, TEMPORARY, checked, escaped, is_temporary, writer_of

EXCHANGE_WAITS = 60.0  # seconds that an exchange waits for queries under way; later queries wait for the exchange
_LAYOUT, _TURNSTILE = "layout", "layout-turn"
T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalFolder:
    """A folder of this machine's file system. No name leaves it, through links neither."""

    exclusive = True

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def writable(self) -> bool:
        """Whether this process may write there; so it is where there is nothing yet."""
        return not self.root.exists() or os.access(self.root, os.W_OK)

    def _path(self, name: str) -> Path:
        """Where the file `name` lies. Raises StoreError where its name, or a link on the way, leads out."""
        path = self.root / checked(name)
        steps = (path, *path.parents[: name.count("/")])  # below the root; most files have no link to follow
        linked = any(step.is_symlink() for step in steps)
        if linked and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise StoreError(
                f"{name} in the store {self.root} is, or lies behind, a link that leads out of it: put the files "
                "themselves there, or delete the link"
            )
        return path

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with self._reading(name):
            return self._path(name).exists()

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Raise StoreError where the `with` may not read; FileNotFoundError as it comes."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.root / name} cannot be read ({_why(error)}): have it made readable, or name another store "
                "(--store, store=)"
            ) from error

    def walk(self) -> Iterator[str]:
        """Every file's name, temporary ones too, in no order; none where there is no folder. Links are not followed."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file, not a folder: name another (--store, store=)")
        for name, _ in self._entries(""):
            yield name

    def _entries(self, under: str) -> Iterator[tuple[str, bool]]:
        """All that is no folder, under a folder: its name, and whether it is a file itself, not a link or a pipe.

        Raises StoreError for what cannot be listed.
        """
        try:
            with os.scandir(self.root / under) as entries:
                for entry in entries:
                    name = f"{under}/{entry.name}" if under else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._entries(name)
                    else:
                        yield name, entry.is_file(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            if wrong := self._in_the_way(under):
                raise wrong from error  # otherwise there is no folder, or it was removed since it was listed
        except OSError as error:
            raise StoreError(
                f"{self.root / under} cannot be listed ({_why(error)}): have it made readable, or name another store "
                "(--store, store=)"
            ) from error

    def _in_the_way(self, folder: str) -> StoreError | None:
        """What to say of a file, a pipe or a broken link where the store has a folder; None where there is none."""
        steps = [self.root / folder, *(self.root / folder).parents[: folder.count("/")]]
        wrong = next((step for step in reversed(steps) if step != self.root and _no_folder(step)), None)
        if wrong is None:
            return None
        return StoreError(
            f"{wrong} is no folder, where a store has one: move it elsewhere, or put the folder back from a copy of "
            "the store. Without the folder its rows are missing, and runs make anew what they need"
        )

    def names(self, under: str) -> list[str]:
        """Files under a folder, at any depth, sorted; temporary ones left out.

        Raises StoreError for a link out of the folder, and for what is no file at all (a pipe, a device).
        """
        self._path(under)
        found = []
        for name, regular in self._entries(under):
            if not is_temporary(name.rpartition("/")[2]):
                found.append(name)
                if not regular:
                    self._check_regular(name)
        return sorted(found)

    def _check_regular(self, name: str) -> None:
        """Raise StoreError where a name is a link out of the folder or no regular file: reading a pipe never ends."""
        path = self._path(name)
        if not path.is_file() and (path.exists() or path.is_symlink()):
            raise StoreError(f"{path} is no file that can be read: delete it, nothing of a store is like that")

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        with self.open(name) as handle:
            return handle.read()

    def open(self, name: str) -> IO[bytes]:
        """A file, opened for reading."""
        with self._reading(name):
            self._check_regular(name)
            return self._path(name).open("rb")

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in the place of one that is there, at once or not at all. Raises DiskFull."""
        with self.new(name, len(content)) as temporary:
            temporary.write_bytes(content)

    def publish(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write `table` as Parquet at once or not at all; a file that is there is kept. Raises DiskFull."""
        if not self.exists(name):
            with self.new(name, table.nbytes) as temporary:
                write_parquet(temporary, table, row_group_size)

    @contextlib.contextmanager
    def new(self, name: str, size: int) -> Iterator[Path]:
        """A temporary file, which is flushed and takes its name at the end of the `with`, or disappears.

        `size` is about how many bytes it will have, for the message of DiskFull.
        """
        path = self._path(name)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
        with self._writing(name, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                _flush(temporary)
                temporary.replace(path)
                _flush(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self, name: str, size: int = 0) -> Iterator[None]:
        """Raise DiskFull or StoreError where the `with` cannot write."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFull(
                    f"no room for {self.root / name} (up to {size:,} bytes): free some space, then run again"
                ) from error
            if error.errno == errno.EISDIR:
                raise StoreError(
                    f"{self.root / name} is a folder, where a store has a file: move it elsewhere, then run again"
                ) from error
            raise self._in_the_way(str(PurePosixPath(name).parent)) or StoreError(
                f"the store {self.root} can be read, not written ({name}: {_why(error)}): have it made writable, copy "
                "it, or name another (--store, store=)"
                if (self.root / MARKER).exists()
                else f"no store can be made at {self.root} ({_why(error)}): name another folder (--store, store=)"
            ) from error

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._path(name).stat().st_size

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._writing(name):
            self._path(name).unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, in the place of one that is there."""
        with self._writing(name):
            target = self._path(to)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path(name).replace(target)

    def sweep(self) -> list[str]:
        """Delete what processes that are gone left half written; those names."""
        left = [n for n in self.walk() if is_temporary(n.rpartition("/")[2]) and not _alive(n.rpartition("/")[2])]
        for name in left:
            self.remove(name)
        return left

    def room(self) -> int | None:
        """Bytes that can still be written."""
        return shutil.disk_usage(self.root).free

    def _lock_file(self, name: str) -> Path:
        with self._writing(f"{LOCKS}/{name}"):
            path = self._path(f"{LOCKS}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return path

    @contextlib.contextmanager
    def _entered(self, name: str, lock: Callable[[Path], contextlib.AbstractContextManager[T]]) -> Iterator[T]:
        """Hold the lock file `name` by `lock`. Raises StoreError where it cannot be written, or cannot be locked."""
        with contextlib.ExitStack() as held:
            with self._writing(f"{LOCKS}/{name}"):
                got = held.enter_context(lock(self._lock_file(name)))
            yield got

    def lock(self, name: str, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Hold `name` for this process; the kernel frees it when the process dies, however it dies."""
        return self._entered(name, lambda path: locked(path, shared))

    def try_lock(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Hold `name` alone where nobody holds it now; whether that is so."""
        return self._entered(name, try_locked)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Share the lock of the files' layout, after whoever waits to exchange files.

        Where there is no lock file and none can be made, the folder is read-only, and nobody exchanges files.
        """
        with self._reading(LOCKS):
            layout, turnstile = (self._path(f"{LOCKS}/{name}") for name in (_LAYOUT, _TURNSTILE))
            lacking = self.writable and not (layout.exists() and turnstile.exists())
        if lacking:
            layout, turnstile = self._lock_file(_LAYOUT), self._lock_file(_TURNSTILE)
        if os.access(turnstile, os.R_OK) and os.access(layout, os.R_OK):
            return shared_in_turn(layout, turnstile)
        return shared_lock(layout) if os.access(layout, os.R_OK) else contextlib.nullcontext()

    def exchanging(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the files' layout, before every reader that comes later.

        Later readers wait for it. Raises StoreBusy where an earlier one takes longer than `EXCHANGE_WAITS` seconds.
        """
        busy = StoreBusy(
            f"a query has been reading {self.root} for more than {EXCHANGE_WAITS:g} s, so files cannot give way to "
            "others: run again when it has ended"
        )
        turnstile = self._lock_file(_TURNSTILE)
        return self._entered(_LAYOUT, lambda path: locked_next(path, turnstile, EXCHANGE_WAITS, busy))

    def try_exchanging(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the lock of the files' layout where nobody reads now; whether that is so."""
        return self.try_lock(_LAYOUT)

    def url(self, pattern: str) -> str:
        """A pattern of names as DuckDB reads it: absolute, whatever letters the folder's own path has."""
        return f"{escaped(str(self.root))}/{pattern}"

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """DuckDB reads local files by itself."""

    def raise_failure(self) -> None:
        """DuckDB itself says what it met."""


def _no_folder(path: Path) -> bool:
    """Whether something else than a folder lies there, a broken link too."""
    return os.path.lexists(path) and not path.is_dir()


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def write_parquet(where: Path | IO[bytes], table: pa.Table, row_group_size: int | None) -> None:
    """Write a table as Parquet: zstd, float lists as BYTE_STREAM_SPLIT, dictionaries for text alone.

    That is 5 times as fast as the defaults.
    """
    lists = [f.name for f in table.schema if pa.types.is_fixed_size_list(f.type)]
    pq.write_table(
        table,
        where,
        row_group_size=row_group_size,
        compression="zstd",
        compression_level=1,
        use_dictionary=[f.name for f in table.schema if pa.types.is_string(f.type)],
        use_byte_stream_split=[f"{name}.list.element" for name in lists],
        write_page_checksum=True,
    )


def _flush(path: Path) -> None:
    """Have the kernel put a file, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(temporary: str) -> bool:
    """Whether the process that writes a temporary file is still there."""
    process = writer_of(temporary)
    return process is not None and runs(process)
