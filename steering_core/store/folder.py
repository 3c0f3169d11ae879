"""`Folder`: what a store asks of the place where its files lie."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import duckdb
import pyarrow as pa


class Folder(Protocol):
    """A store's folder: `files.LocalFolder`, or `objects.ObjectFolder`. Names are relative to it, with slashes."""

    @property
    def root(self) -> Path | str:
        """Where it is."""

    @property
    def writable(self) -> bool:
        """Whether this process may write there."""

    @property
    def exclusive(self) -> bool:
        """Whether `lock` keeps every other writer out, so that no row can be written twice."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def walk(self) -> Iterator[str]:
        """Every file's name, temporary ones too, in no order."""

    def read(self, name: str) -> bytes:
        """The contents of a file."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in the place of one that is there, at once or not at all."""

    def publish(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write `table` as Parquet at once or not at all; a file that is there is kept: its name is its content."""

    def open(self, name: str) -> IO[bytes]:
        """A file, opened for reading."""

    def names(self, under: str) -> list[str]:
        """Files under a folder, at any depth, sorted."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name, in the place of one that is there."""

    def sweep(self) -> list[str]:
        """Delete what killed processes left half written; those names."""

    def room(self) -> int | None:
        """Bytes that can still be written, where that is known."""

    def lock(self, name: str, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Hold `name` for this process, alone or with others that share it."""

    def try_lock(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Hold `name` alone where nobody holds it now; whether that is so."""

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Keep every file where it is while it is read. A thread that reads must not ask for it again."""

    def exchanging(self) -> contextlib.AbstractContextManager[None]:
        """Keep every reader of this machine out. Raises StoreBusy where one reads for very long."""

    def try_exchanging(self) -> contextlib.AbstractContextManager[bool]:
        """Keep every reader of this machine out where nobody reads now; whether that is so."""

    def url(self, pattern: str) -> str:
        """A pattern of names as DuckDB reads it, whatever letters are in the folder's own path."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have a connection read from here."""

    def raise_failure(self) -> None:
        """Raise what a connection met here since this was asked last, where that is no damage of a file."""
