"""A store in an object store, such as s3://bucket/prefix, through fsspec.

A put that creates only publishes a file whole, and never over another. Nothing there keeps two machines from writing
the same rows at once, so the views show each row once (`Folder.exclusive`); processes of one machine take turns.
Every request costs, so what is there is listed once for many questions, and small objects are read once (`listing`).
"""

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import duckdb
import fsspec
import pyarrow as pa

from steering_core.foundation.errors import StoreError
from steering_core.foundation.locks import locked, try_locked
from steering_core.store.files import write_parquet
from steering_core.store.footers import pin_content
from steering_core.store.listing import Listing, asked
from steering_core.store.names import LOCKS, PIN, checked, escaped
from steering_core.store.tables import TABLES

PROTOCOLS = ("s3", "s3a")
T = TypeVar("T")
_TALKATIVE = ("botocore", "aiobotocore", "s3fs", "fsspec", "urllib3")


class ObjectFolder:
    """A prefix of a bucket. Credentials and endpoint come from the environment, as fsspec and boto read them."""

    exclusive = False
    writable = True  # as far as is known before a put

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._protocol = url.split("://")[0]
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._files, self._path = _file_system(self._protocol, self.root)
        pins = {f"{table}/{PIN}": pin_content(table) for table in TABLES}
        self._listing = Listing(self.root, self._files, self._path, pins)

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        return checked(name) in self._listing.objects()

    def walk(self) -> Iterator[str]:
        """Every object's name."""
        return iter(self._listing.objects())

    def names(self, under: str) -> list[str]:
        """Objects under a prefix, sorted."""
        return sorted(name for name in self._listing.objects() if name.startswith(f"{under}/"))

    def size(self, name: str) -> int:
        """Bytes of an object. Raises FileNotFoundError where there is none."""
        return self._listing.found(name).size

    def read(self, name: str) -> bytes:
        """The contents of an object."""
        return self.open(name).read()

    def open(self, name: str) -> IO[bytes]:
        """An object, opened for reading."""
        return self._listing.open(name)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in the place of one that is there."""
        asked(self.root, lambda: self._files.pipe_file(self._key(name), content))
        self._listing.removed(name)
        self._listing.forget()

    def publish(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write `table` as Parquet with a put that creates only; an object that is there is kept."""
        sink = io.BytesIO()
        write_parquet(sink, table, row_group_size)
        content = sink.getvalue()
        try:
            asked(self.root, lambda: self._files.pipe_file(self._key(name), content, mode="create"))
        except FileExistsError:
            self._listing.forget()
        else:
            self._listing.wrote(name, content)

    def remove(self, name: str) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            asked(self.root, lambda: self._files.rm_file(self._key(name)))
        self._listing.removed(name)

    def move(self, name: str, to: str) -> None:
        """Give an object another name: copied, then deleted."""
        asked(self.root, lambda: self._files.cp_file(self._key(name), self._key(to)))
        self.remove(name)
        self._listing.forget()

    def _key(self, name: str) -> str:
        return f"{self._path}/{checked(name)}"

    def sweep(self) -> list[str]:
        """A put leaves nothing half written."""
        return []

    def room(self) -> int | None:
        """Unknown."""
        return None

    def _lock_file(self, name: str) -> Path:
        own = hashlib.blake2b(self.root.encode(), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir(), "steerflow-locks", own, checked(f"{LOCKS}/{name}"))

    @contextlib.contextmanager
    def _entered(self, name: str, lock: Callable[[Path], contextlib.AbstractContextManager[T]]) -> Iterator[T]:
        """Hold the lock file `name` by `lock`. Raises StoreError where it cannot be written, as another user's."""
        path = self._lock_file(name)
        with contextlib.ExitStack() as held:
            try:
                got = held.enter_context(lock(path))
            except OSError as error:
                raise StoreError(
                    f"{path}, by which processes of this machine take turns at {self.root}, cannot be written "
                    f"({error.strerror}): have it made writable, or set TMPDIR to another folder for all of them"
                ) from error
            yield got

    @contextlib.contextmanager
    def lock(self, name: str, shared: bool = False) -> Iterator[None]:
        """Hold `name` against other processes of this machine; what they wrote before is seen inside."""
        with self._entered(name, lambda path: locked(path, shared)):
            self._listing.forget()
            yield

    def try_lock(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Hold `name` against other processes of this machine where none holds it now; whether that is so."""
        return self._entered(name, try_locked)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Share the lock of the objects' layout with this machine's other readers."""
        return self._entered("layout", lambda path: locked(path, shared=True))

    def exchanging(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the objects' layout."""
        return self.lock("layout")

    def try_exchanging(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the lock of the objects' layout where nobody of this machine reads now; whether that is so."""
        return self.try_lock("layout")

    def url(self, pattern: str) -> str:
        """A pattern of names as DuckDB reads it."""
        return f"{escaped(self.root)}/{pattern}"

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have a connection read through fsspec: DuckDB needs no extension for that."""
        if not connection.filesystem_is_registered(self._protocol):
            connection.register_filesystem(self._listing.file_system(self._protocol))

    def raise_failure(self) -> None:
        """Raise what a connection met here: StoreError, or FileNotFoundError for an object that is no longer there."""
        self._listing.raise_failure()


def _file_system(protocol: str, url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, without retries and caches of its own, and the path there."""
    if protocol in ("file", "local"):
        raise StoreError(f"{url!r:.300} is a local folder: name it without {protocol}://")
    if protocol not in PROTOCOLS:
        raise StoreError(f"there can be no store at {url!r:.300}: name a folder or s3://bucket/prefix")
    if not url.partition("://")[2].strip("/"):
        raise StoreError(f"{protocol}:// names no bucket: name one, as in s3://bucket/prefix")
    options: dict[str, Any] = {"use_listings_cache": False}
    options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise StoreError(
            f"there can be no store at {url!r:.300} ({error!s:.200}): name a folder or s3://bucket/prefix"
        ) from error
    if hasattr(files, "retries"):
        files.retries = 1
    return files, path.rstrip("/")
