"""`Store`: ask which rows are missing, append them, query everything."""

import contextlib
import datetime
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from steering_core.foundation.errors import DiskFull, QueryError, StoreDamaged, StoreError
from steering_core.store.arrow_rows import arrow_rows
from steering_core.store.checked import CheckedFiles
from steering_core.store.known import RECALLED, KnownTables, RowKey
from steering_core.store.merging import merge_many
from steering_core.store.names import MARKER
from steering_core.store.opening import STORE_VERSION, default_store, folder_at, prepare
from steering_core.store.select import select_tree, with_quotes_told
from steering_core.store.tables import TABLES
from steering_core.store.values import rows_of
from steering_core.store.views import define, define_views, every_view, first_line, is_damage, tables_in, views_in
from steering_core.store.wholeness import file_key, mend

__all__ = ["IN_USE", "STORE_VERSION", "Store", "connect", "default_store"]

IN_USE = "in-use"
_TIMES = 5  # that a query is asked, where files that it reads are exchanged meanwhile
Row = Mapping[str, Any]
"""One row of a table or a query, by column."""
TableRows = Sequence[Row]
T = TypeVar("T")


class Store:
    """A folder of tables, local or s3://bucket/prefix. Opening it makes it, where it does not exist.

    One reads by `query` (an Arrow table), `rows` (dictionaries) and `connect` (DuckDB); other methods are for stages.
    Raises StoreTooNew for a store of a later version, StoreError where the folder is something else.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder_at(url)
        self._views: duckdb.DuckDBPyConnection | None = None
        self._defined: set[str] = set()
        self._defining = threading.Lock()
        self._thread = threading.local()
        self._checked = CheckedFiles(self.folder)
        self._known = KnownTables(self.folder, lambda sql: self.query(sql))
        prepare(self.folder)

    def __repr__(self) -> str:
        tables = ("models", "concepts", "vectors", "recommendations")
        counts = ", ".join(f"(SELECT count(*) FROM raw.{table}) AS {table}" for table in tables)
        (row,) = self.rows(f"SELECT {counts}")
        return f"<Store {self.root}: {', '.join(f'{n} {table}' for table, n in row.items())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (str(self.root),))

    @property
    def root(self) -> Path | str:
        """Where the store is: a folder, or a URL."""
        return self.folder.root

    @classmethod
    def existing(cls, url: str | os.PathLike[str] | None = None) -> "Store":
        """The store at `url`, which must be there. Raises StoreError where it is not."""
        folder = folder_at(url)
        if not folder.exists(MARKER):
            raise StoreError(
                f"there is no store at {folder.root}: run a spec (`steer run SPEC.yaml`, steer.run), go to the folder "
                "in which you ran one, or name another store (--store, store=)"
            )
        return cls(url)

    # -- writing -------------------------------------------------------------------------------------------------

    def absent(self, table: str, ids: Iterable[str]) -> set[str]:
        """The ids among `ids`, values of the table's single key column, for which the table has no row."""
        (_,) = TABLES[table].key
        if (known := self._known.of(table)) is not None:
            return {i for i in ids if (i,) not in known}
        return {i for (i,) in self._absent_keys(table, [(i,) for i in set(ids)])}

    def empty(self, table: str) -> bool:
        """Whether a table is known to have no rows at all; False where that would take a question."""
        return self._known.of(table) == {}

    def recall(self, table: str, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The columns `RECALLED[table]` of the rows with one of `ids`, by id; ids without a row are left out."""
        (key,), names = TABLES[table].key, RECALLED[table]
        wanted = sorted(set(ids))
        if (known := self._known.of(table)) is not None:
            return {i: dict(zip(names, known[(i,)], strict=True)) for i in wanted if (i,) in known}
        sql = f'SELECT {key}, {", ".join(names)} FROM wanted JOIN raw."{table}" USING ({key}) ORDER BY {key}'
        rows = self.rows(sql, wanted=pa.table({key: pa.array(wanted, pa.string())}))
        return {row.pop(key): row for row in rows}

    def append(self, table: str, rows: Sequence[Row]) -> int:
        """Publish the rows whose key the table does not have, all or nothing; returns how many they were.

        Raises StoreError for a row whose columns are not the table's.
        """
        columns, key = set(TABLES[table].schema.names), TABLES[table].key
        for row in rows:
            if set(row) != columns:
                wrong = ", ".join(sorted(set(row) ^ columns))
                raise StoreError(f"a row of {table} does not have the table's columns: {wrong}")
        if not rows:
            return 0
        with self.lock(table):
            fresh = {tuple(row[name] for name in key): dict(row) for row in rows}
            known = self._known.of(table)
            new = self._absent_keys(table, fresh) if known is None else fresh.keys() - known.keys()
            fresh = {k: row for k, row in fresh.items() if k in new}
            if fresh:
                made = pa.Table.from_pylist(list(fresh.values()), schema=TABLES[table].schema)
                self._known.appended(table, self.publish(table, made), made)
        return len(fresh)

    def _absent_keys(self, table: str, keys: Iterable[RowKey]) -> set[RowKey]:
        """The keys among `keys` for which the table has no row."""
        names = TABLES[table].key
        columns = list(zip(*keys, strict=True)) or [()] * len(names)
        wanted = pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})
        key = ", ".join(names)
        found = self.query(f'SELECT {key} FROM wanted ANTI JOIN raw."{table}" USING ({key})', wanted=wanted)
        return set(zip(*(found[name].to_pylist() for name in names), strict=True))

    def append_activations(self, model_id: str, rows: pa.Table, row_group_size: int) -> None:
        """Publish a shard of one model's activations, in row groups of that many rows (one a layer).

        Whoever appends holds the lock `activations-MODEL` and has asked what is missing.
        """
        self.publish("activations", rows, model_id, row_group_size)

    def publish(self, table: str, rows: pa.Table, under: str = "", row_group_size: int | None = None) -> str:
        """Write `rows` as one file of `table`, named by their keys; its name. Nothing where there are no rows.

        Whoever calls holds the table's lock. Where there are many small files by now, they are merged.
        """
        name = f"{table}/{under}/{file_key(table, rows)}.parquet".replace("//", "/")
        if rows.num_rows:
            self.folder.publish(name, rows, row_group_size)
            self._checked.wrote(name)
            merge_many(self.folder, table, under)
        return name

    def time_after_all(self, table: str, column: str) -> datetime.datetime:
        """The time now; where the table has a later time in `column`, up to a second after the latest.

        The latest row of some tables is the one that holds, and a clock that was set back must not put a new row before
        old ones. The moment is drawn at random, so that two processes that ask at once get different times. Raises
        StoreDamaged where no time is later than the latest, as another program may have written it.
        """
        (found,) = self.rows(f'SELECT max("{column}") AS latest FROM raw."{table}"')
        now, latest = datetime.datetime.now(datetime.UTC), found["latest"]
        moment = datetime.timedelta(microseconds=1 + secrets.randbelow(1_000_000))
        try:
            return now if latest is None or latest < now else latest + moment
        except (TypeError, OverflowError) as error:  # infinite or beyond Python's years, which comes as text
            raise StoreDamaged(
                f"raw.{table}.{column} holds {latest}, and no time is later: another program wrote this store, name "
                "another (--store, store=)"
            ) from error

    def check_room(self, size: int) -> None:
        """Raise DiskFull where the store's disk has less room than `size` bytes."""
        room = self.folder.room()
        if room is not None and size > room:
            raise DiskFull(
                f"{size:,} bytes are to be written and the disk of {self.root} has {room:,} free: free some space, ask "
                "for fewer layers or prompts, or name another store (--store, store=)"
            )

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold `name` against other processes that compute the same; freed when this process dies."""
        with self.folder.lock(name):
            yield

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Keep `steer store gc` waiting: rows are appended here to which others will refer. Any number at once."""
        return self.folder.lock(IN_USE, shared=True)

    # -- reading -------------------------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] = (), **tables: pa.Table) -> pa.Table:
        """Rows of `sql` over the views and over Arrow `tables` given by name.

        Columns of one name are told apart as DuckDB does it: a, a_1. A damaged file that it meets is set aside with a
        warning, and its rows are missing from then on. Raises QueryError for SQL that DuckDB refuses, and for no text.
        """
        if not isinstance(sql, str):
            raise QueryError(f"a query is a text of SQL, not a {type(sql).__name__}: 'SELECT * FROM recommendations'")
        try:
            return self._again(lambda: self._mended(lambda: self._query(sql, parameters, tables), sql))
        except duckdb.Error as error:
            raise QueryError(str(error)) from None  # DuckDB's error says the same

    def read(self, question: Callable[[], T], sql: str) -> T:
        """What `question` reads of the tables in `sql` through a connection of its own, while no file is moved here.

        The question should be short: a compaction waits for it, and merging is put off. It is asked again where another
        machine merged an object that it was about to read, and where damaged files were set aside, with a warning each.
        DuckDB's other errors are raised as they are.
        """
        return self._again(lambda: self._mended(lambda: self._steady(question), sql))

    def check(self, tables: Iterable[str] | None = None) -> None:
        """Set aside the files of those tables, or of all, that are not theirs, with a warning each, as queries do."""
        self._checked.check(TABLES if tables is None else tables)

    def _again(self, question: Callable[[], T]) -> T:
        for _ in range(_TIMES):
            with contextlib.suppress(FileNotFoundError):  # an object that another machine merged: listed again
                return question()
        raise StoreError(f"files of {self.root} change faster than they can be read: run again in a moment")

    def _steady(self, question: Callable[[], T]) -> T:
        with self.folder.reading():
            try:
                return question()
            except duckdb.Error:
                self.folder.raise_failure()
                raise

    def _mended(self, question: Callable[[], T], sql: str) -> T:
        """What `question` reads of the tables in `sql`, once what is damaged there is set aside.

        Raises StoreDamaged where DuckDB cannot read it even then.
        """
        tables = tables_in(sql)
        self.check(tables)
        try:
            return question()
        except duckdb.Error as error:
            if not is_damage(error) or not (mend(self.folder, tables) or isinstance(error, duckdb.IOException)):
                raise
        try:
            return question()
        except duckdb.Error as error:
            raise StoreDamaged(f"{first_line(error)}: run `steer store verify`, then run again") from error

    def _query(self, sql: str, parameters: Sequence[Any], tables: Mapping[str, pa.Table]) -> pa.Table:
        connection = self._own_connection(views_in(sql))
        for name, table in tables.items():
            connection.register(name, table)
        try:
            return self._steady(lambda: self._rows_of(connection, sql, parameters))
        finally:
            for name in tables:
                connection.unregister(name)

    def answer(self, sql: str) -> pa.Table:
        """Rows of one SELECT that somebody typed. Raises QueryError for anything else, and where DuckDB refuses it."""
        select_tree(self._own_connection(()), sql)
        try:
            return self.query(sql)
        except QueryError as error:
            raise QueryError(with_quotes_told(sql, str(error))) from None

    def _rows_of(self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]) -> pa.Table:
        """The rows of a query; where DuckDB misses a name, asked again with every view, so that it can suggest one."""
        try:
            return _rows(connection, sql, parameters)
        except duckdb.CatalogException:
            self._define(every_view())
            return _rows(connection, sql, parameters)

    def _own_connection(self, views: Sequence[str]) -> duckdb.DuckDBPyConnection:
        """This thread's connection, with those views: defining all of them costs a hundred times what a query does."""
        self._define(views)
        if not hasattr(self._thread, "connection"):
            assert self._views is not None
            self._thread.connection = self._views.cursor()
        connection: duckdb.DuckDBPyConnection = self._thread.connection
        return connection

    def _define(self, views: Sequence[str]) -> None:
        """Have the threads' connections see those views, too."""
        with self._defining:
            if self._views is None:
                self._views = self._connection()
            if missing := [view for view in views if view not in self._defined]:
                define(self._views, self.folder, missing)
                self._defined.update(missing)

    def rows(self, sql: str, parameters: Sequence[Any] = (), **tables: pa.Table) -> list[dict[str, Any]]:
        """The rows that `query` gives, as a list of dicts."""
        return rows_of(self.query(sql, parameters, **tables))

    def connect(self) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB connection with every view of the store. Raises StoreDamaged where they cannot be."""
        connection = self._connection()
        define_views(connection, self.folder)
        return connection

    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
            connection.execute("SET enable_progress_bar = false")  # the bar fails in Jupyter without ipywidgets
        connection.execute("SET TimeZone = 'UTC'")
        self.folder.attach(connection)
        return connection


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]) -> pa.Table:
    """The rows of a query, their columns told apart. Raises QueryError for a statement without rows."""
    found = connection.sql(sql, params=list(parameters))
    if found is None:
        raise QueryError(f"this is no query, it has no rows: {sql!r:.80}")
    return arrow_rows(found)


def connect(url: str | os.PathLike[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views of the store at `url`, for reading. Raises StoreError where there is none."""
    return Store.existing(url).connect()
