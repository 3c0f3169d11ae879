"""What a process knows of the tables that it appends to: every key, and a few columns by key, without asking DuckDB.

A run asks some hundred times which rows are missing, and for values that it has just measured. A row never changes
under its key and lies in an immutable file, so what was learnt holds as long as a table has the same files. Where files
came from elsewhere, were merged or went, the table is read again. Nothing is known of an object store, which cannot be
listed cheaply, nor of a table of more than `MOST` rows, which is not worth the memory: DuckDB is asked about those.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from steering_core.store.folder import Folder
from steering_core.store.merging import by_folder
from steering_core.store.tables import TABLES

MOST = 100_000  # rows of a table that are kept, some 40 MB of measurements
RECALLED: dict[str, tuple[str, ...]] = {
    "measurements": ("intervention_id", "control", "metric", "value", "subject_id"),
    "generations": ("prompt",),
}
"""Columns that a search asks for by key, once for each of its steps."""
RowKey = tuple[str, ...]
"""A row's key: its columns' values, in the order of the table's key."""
Known = Mapping[RowKey, tuple[Any, ...]]
"""The recalled columns of all rows of a table, by key."""


@dataclass(frozen=True)
class _Learnt:
    """All rows of a table, as they were when it had exactly these files."""

    files: frozenset[str]
    rows: dict[RowKey, tuple[Any, ...]]


class KnownTables:
    """What this process knows of a folder's tables. Safe to use from several threads."""

    def __init__(self, folder: Folder, read: Callable[[str], pa.Table]) -> None:
        """`read` answers SQL over the folder's tables."""
        self._folder, self._read = folder, read
        self._lock = threading.Lock()
        self._learnt: dict[str, _Learnt] = {}
        self._large: set[str] = set()

    def of(self, table: str) -> Known | None:
        """All rows of a table, as they are now; None where they are not known."""
        files = None if table in self._large else self._files(table)
        if files is None:
            return None
        learnt = self._learnt.get(table)
        if learnt is None or learnt.files != files:
            learnt = self._read_whole(table, files)
        return None if learnt is None else learnt.rows

    def appended(self, table: str, name: str, rows: pa.Table) -> None:
        """Note the rows that this process appended to a table as the file `name`, while it holds the table's lock."""
        learnt, files = self._learnt.get(table), self._files(table)
        if learnt is None or files is None:
            return
        if len(learnt.rows) + rows.num_rows > MOST:
            self._forget(table, large=True)
        elif files == learnt.files | {name}:
            learnt.rows.update(_by_key(table, rows))
            with self._lock:
                self._learnt[table] = _Learnt(files, learnt.rows)
        else:
            self._forget(table)

    def _files(self, table: str) -> frozenset[str] | None:
        """Names of a table's files with rows; None in an object store. A local listing costs 1 % of a query."""
        if not self._folder.exclusive:
            return None
        return frozenset(name for names in by_folder(table, self._folder.names(table)).values() for name in names)

    def _read_whole(self, table: str, files: frozenset[str]) -> _Learnt | None:
        """Read a table whose files were listed before; None where it has too many rows, and from then on."""
        rows = TABLES[table].schema.empty_table()
        if files:
            columns = ", ".join((*TABLES[table].key, *RECALLED.get(table, ())))
            rows = self._read(f'SELECT {columns} FROM raw."{table}" LIMIT {MOST + 1}')
        if rows.num_rows > MOST:
            self._forget(table, large=True)
            return None
        learnt = _Learnt(files, _by_key(table, rows))
        with self._lock:
            self._learnt[table] = learnt
        return learnt

    def _forget(self, table: str, large: bool = False) -> None:
        with self._lock:
            self._learnt.pop(table, None)
            if large:
                self._large.add(table)


def _by_key(table: str, rows: pa.Table) -> dict[RowKey, tuple[Any, ...]]:
    """The recalled columns of rows of a table, by their keys."""
    key = TABLES[table].key
    values = zip(*(rows[name].to_pylist() for name in (*key, *RECALLED.get(table, ()))), strict=True)
    return {row[: len(key)]: row[len(key) :] for row in values}
