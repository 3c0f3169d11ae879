"""A store in an object store, such as s3://bucket/prefix, through fsspec.

A put that creates only publishes a file whole, and never over another. Nothing there keeps two machines from writing
the same rows at once, so the views show each row once (`Folder.exclusive`); processes of one machine take turns.
"""

import contextlib
import hashlib
import io
import tempfile
from pathlib import Path
from typing import IO

import duckdb
import fsspec
import pyarrow as pa

from steering_core.locks import locked
from steering_core.store.files import write_parquet


class ObjectFolder:
    """A prefix of a bucket. Credentials and endpoint come from the environment, as fsspec and boto read them."""

    exclusive = False
    writable = True  # as far as is known before a put

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._protocol = url.split("://")[0]
        self._files, self._path = fsspec.core.url_to_fs(self.root, use_listings_cache=False)

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        return bool(self._files.exists(f"{self._path}/{name}"))

    def is_empty(self) -> bool:
        """Whether there is nothing at all."""
        return not self._files.find(self._path)

    def read(self, name: str) -> bytes:
        """The contents of an object."""
        content: bytes = self._files.cat_file(f"{self._path}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in the place of one that is there."""
        self._files.pipe_file(f"{self._path}/{name}", content)

    def publish(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write `table` as Parquet with a put that creates only; an object that is there is kept."""
        content = io.BytesIO()
        write_parquet(content, table, row_group_size)
        with contextlib.suppress(FileExistsError):
            self._files.pipe_file(f"{self._path}/{name}", content.getvalue(), mode="create")

    def open(self, name: str) -> IO[bytes]:
        """An object, opened for reading."""
        opened: IO[bytes] = self._files.open(f"{self._path}/{name}", "rb")
        return opened

    def names(self, under: str) -> list[str]:
        """Objects under a prefix, sorted."""
        skip = len(self._path) + 1
        return sorted(path[skip:] for path in self._files.find(f"{self._path}/{under}"))

    def size(self, name: str) -> int:
        """Bytes of an object."""
        return int(self._files.size(f"{self._path}/{name}"))

    def remove(self, name: str) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._path}/{name}")

    def move(self, name: str, to: str) -> None:
        """Give an object another name: copied, then deleted."""
        self._files.mv(f"{self._path}/{name}", f"{self._path}/{to}")

    def sweep(self) -> list[str]:
        """A put leaves nothing half written."""
        return []

    def room(self) -> int | None:
        """Unknown."""
        return None

    def lock(self, name: str, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Hold `name` against other processes of this machine."""
        own = hashlib.blake2b(self.root.encode(), digest_size=8).hexdigest()
        return locked(Path(tempfile.gettempdir(), "steerflow-locks", own, name), shared)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Share the lock of the objects' layout with this machine's other readers."""
        return self.lock("layout", shared=True)

    def url(self, pattern: str) -> str:
        """A pattern of names as DuckDB reads it."""
        return f"{self.root}/{pattern}"

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have a connection read through fsspec: DuckDB needs no extension for that."""
        if not connection.filesystem_is_registered(self._protocol):
            connection.register_filesystem(self._files)
