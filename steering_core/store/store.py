"""`Store`: ask which rows are missing, append them, query everything."""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from steering_core.errors import DiskFull, QueryError, StoreDamaged, StoreError, StoreTooNew
from steering_core.keys import content_key
from steering_core.store.files import Folder, LocalFolder
from steering_core.store.select import select_tree
from steering_core.store.tables import TABLES, Table
from steering_core.store.wholeness import file_key, finish_exchange, mend, pin

log = logging.getLogger(__name__)

STORE_VERSION = 1
IN_USE = "in-use"
_MARKER = "store.json"
_CATALOG = "catalog.duckdb"
_DAMAGE = (duckdb.InvalidInputException, duckdb.IOException, duckdb.InternalException)  # what damaged files raise
Row = Mapping[str, Any]


def default_store() -> str:
    """`STEERFLOW_STORE`, or `data/store` under the working directory."""
    return os.environ.get("STEERFLOW_STORE", "data/store")


def _folder(url: str | os.PathLike[str] | None) -> Folder:
    where = str(url or default_store())
    if "://" not in where:
        return LocalFolder(Path(where).resolve())
    from steering_core.store.objects import ObjectFolder  # loads fsspec: only where it is needed

    return ObjectFolder(where)


class Store:
    """A folder of tables, local or s3://bucket/prefix. Opening it makes it, where it does not exist.

    Raises StoreTooNew for a store of a later version, StoreError where the folder is something else.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        self.folder = _folder(url)
        self._views: duckdb.DuckDBPyConnection | None = None
        self._thread = threading.local()
        self._prepare()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (str(self.root),))

    @property
    def root(self) -> Path | str:
        """Where the store is: a folder, or a URL."""
        return self.folder.root

    @classmethod
    def existing(cls, url: str | os.PathLike[str] | None = None) -> "Store":
        """The store at `url`, which must be there. Raises StoreError where it is not."""
        folder = _folder(url)
        if not folder.exists(_MARKER):
            raise StoreError(f"there is no store at {folder.root}: run `steer run SPEC.yaml`, or name one with --store")
        return cls(url)

    def _prepare(self) -> None:
        marker = {"version": STORE_VERSION, "views": content_key(_views_sql(), str(self.root), _columns())}
        found = self._marker() if self.folder.exists(_MARKER) else None
        if found and found["version"] > STORE_VERSION:
            raise StoreTooNew(
                f"{self.root} was written by store version {found['version']}, this is version {STORE_VERSION}: "
                "upgrade steerflow, or name another store with --store"
            )
        if found is None and not self.folder.is_empty():
            raise StoreError(f"{self.root} is not a steerflow store and not empty: name another folder with --store")
        finish_exchange(self.folder)
        if found and not self.folder.writable:  # every connection defines the views for itself
            return
        if found != marker:  # new, of an earlier version, or moved
            pin(self.folder, TABLES)
            self.write_catalog()
            self.folder.write(_MARKER, json.dumps(marker).encode())

    def _marker(self) -> dict[str, Any]:
        """What the store says of itself. Raises StoreDamaged where that cannot be read."""
        try:
            found = json.loads(self.folder.read(_MARKER))
        except ValueError:  # neither JSON nor UTF-8
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("version"), int):
            raise StoreDamaged(
                f'{self.root}/{_MARKER} is damaged: write {{"version": {STORE_VERSION}}} into it where this folder is '
                "a store, or name another with --store"
            )
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    def absent(self, table: str, ids: Iterable[str]) -> set[str]:
        """Those of `ids` (the table's single key column) for which the table has no row."""
        (key,) = TABLES[table].key
        wanted = pa.table({key: pa.array(sorted(set(ids)), pa.string())})
        found = self.query(f'SELECT {key} FROM wanted ANTI JOIN raw."{table}" USING ({key})', wanted=wanted)
        return set(found[key].to_pylist())

    def append(self, table: str, rows: Sequence[Row]) -> int:
        """Publish those rows whose key the table does not have, all or nothing; how many those were.

        Rows that miss a column or bring one too many are refused.
        """
        columns, key = set(TABLES[table].schema.names), TABLES[table].key
        for row in rows:
            if set(row) != columns:
                wrong = ", ".join(sorted(set(row) ^ columns))
                raise StoreError(f"a row of {table} does not have the table's columns: {wrong}")
        if not rows:
            return 0
        with self.lock(table):
            wanted = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in key})
            names = ", ".join(key)
            new = self.query(f'SELECT {names} FROM wanted ANTI JOIN raw."{table}" USING ({names})', wanted=wanted)
            new_keys = set(zip(*(new[name].to_pylist() for name in key), strict=True))
            fresh = {tuple(row[name] for name in key): dict(row) for row in rows}
            fresh = {k: row for k, row in fresh.items() if k in new_keys}
            self.publish(table, pa.Table.from_pylist(list(fresh.values()), schema=TABLES[table].schema))
        return len(fresh)

    def append_activations(self, model_id: str, rows: pa.Table, row_group_size: int) -> None:
        """Publish a shard of one model's activations, in row groups of that many rows (one a layer).

        Whoever appends holds the lock `activations-MODEL` and has asked what is missing.
        """
        self.publish("activations", rows, model_id, row_group_size)

    def publish(self, table: str, rows: pa.Table, under: str = "", row_group_size: int | None = None) -> str:
        """Write `rows` as one file of `table`, named by their keys; its name. Nothing where there are no rows."""
        name = f"{table}/{under}/{file_key(table, rows)}.parquet".replace("//", "/")
        if rows.num_rows:
            self.folder.publish(name, rows, row_group_size)
        return name

    def check_room(self, size: int) -> None:
        """Raise DiskFull where the store's disk has less room than `size` bytes."""
        room = self.folder.room()
        if room is not None and size > room:
            raise DiskFull(
                f"{size:,} bytes are to be written and the disk of {self.root} has {room:,} free: free some space, ask "
                "for fewer layers or prompts, or name another store with --store"
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
        warning, and its rows are missing from then on. Raises QueryError for SQL that DuckDB refuses.
        """
        try:
            return self._query(sql, parameters, tables)
        except _DAMAGE as error:
            if not mend(self.folder) and not isinstance(error, duckdb.IOException):
                raise QueryError(str(error)) from error
        try:
            return self._query(sql, parameters, tables)
        except duckdb.Error as error:
            raise StoreDamaged(f"{error}: run `steer store verify`, then run again") from error

    def _query(self, sql: str, parameters: Sequence[Any], tables: Mapping[str, pa.Table]) -> pa.Table:
        connection = self._own_connection()
        for name, table in tables.items():
            connection.register(name, table)
        try:
            with self.folder.reading():
                found = connection.sql(sql, params=list(parameters))
                if found is None:
                    raise QueryError(f"this is no query, it has no rows: {sql!r:.80}")
                if len(set(found.columns)) < len(found.columns):
                    found = found.select("*")  # a second column `a` becomes `a_1`: rows have one value a name
                return found.to_arrow_table()
        except _DAMAGE:
            raise
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        finally:
            for name in tables:
                connection.unregister(name)

    def answer(self, sql: str) -> pa.Table:
        """Rows of one SELECT that somebody typed. Raises QueryError for anything else, and where DuckDB refuses it."""
        select_tree(self._own_connection(), sql)
        return self.query(sql)

    def _own_connection(self) -> duckdb.DuckDBPyConnection:
        """This thread's connection: defining the views costs a hundred times what a small query does."""
        if self._views is None:
            self._views = self.connect()
        if not hasattr(self._thread, "connection"):
            self._thread.connection = self._views.cursor()
        connection: duckdb.DuckDBPyConnection = self._thread.connection
        return connection

    def rows(self, sql: str, parameters: Sequence[Any] = (), **tables: pa.Table) -> list[dict[str, Any]]:
        """The same, as a list of dicts."""
        rows: list[dict[str, Any]] = self.query(sql, parameters, **tables).to_pylist()
        return rows

    def connect(self) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB connection with every view of the store.

        A damaged file that defining them meets is set aside with a warning, a missing schema is written again. Raises
        StoreDamaged where that does not help.
        """
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        self.folder.attach(connection)
        try:
            self._define_views(connection)
        except duckdb.BinderException as error:
            if self.folder.writable:
                raise
            raise StoreError(
                f"{self.root} is of an earlier version and read-only: copy it, or open it once where it can be written"
            ) from error
        except _DAMAGE:
            mend(self.folder)
            try:
                self._define_views(connection)
            except duckdb.Error as error:
                raise StoreDamaged(f"{error}: run `steer store verify`, then run again") from error
        return connection

    def _define_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for table in TABLES.values():
            if not self.folder.writable and not self.folder.names(table.name):
                self._define_empty(connection, table)  # of a store that an earlier version wrote
                continue
            pattern = self.folder.url(f"{table.name}/**/*.parquet").replace("'", "''")
            once = f" QUALIFY row_number() OVER (PARTITION BY {', '.join(table.key)}) = 1"
            connection.execute(
                f'CREATE OR REPLACE VIEW raw."{table.name}" AS SELECT * '
                f"FROM read_parquet('{pattern}', union_by_name = true){'' if self.folder.exclusive else once}"
            )
        connection.execute(_views_sql())

    def _define_empty(self, connection: duckdb.DuckDBPyConnection, table: Table) -> None:
        connection.register("of_its_schema", table.schema.empty_table())
        connection.execute(f'CREATE OR REPLACE TABLE raw."{table.name}" AS FROM of_its_schema')
        connection.unregister("of_its_schema")

    def write_catalog(self) -> Path | None:
        """Write `catalog.duckdb`, views alone, that any DuckDB opens read-only; none in an object store."""
        if not isinstance(self.folder, LocalFolder):
            return None
        path = self.folder.root / _CATALOG
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        with duckdb.connect(temporary, config={"storage_compatibility_version": "v1.5.0"}) as connection:
            self._define_views(connection)
        temporary.replace(path)
        return path


def connect(url: str | os.PathLike[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views of the store at `url`, for reading. Raises StoreError where there is none."""
    return Store.existing(url).connect()


def _views_sql() -> str:
    return (package_files("steering_core.store") / "sql" / "views.sql").read_text()


def _columns() -> list[list[str]]:
    """What the views read: each table's name, key, and columns with their types."""
    return [[t.name, *t.key, *(f"{column.name} {column.type}" for column in t.schema)] for t in TABLES.values()]
