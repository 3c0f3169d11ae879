"""`Store`: ask which rows are missing, append them, query everything."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from steering_core.errors import DiskFull, QueryError, StoreDamaged, StoreError, StoreTooNew
from steering_core.keys import content_key
from steering_core.locks import locked
from steering_core.store.files import publish
from steering_core.store.tables import TABLES

STORE_VERSION = 1
_MARKER = "store.json"
_CATALOG = "catalog.duckdb"
Row = Mapping[str, Any]


def default_store() -> str:
    """`STEERFLOW_STORE`, or `data/store` under the working directory."""
    return os.environ.get("STEERFLOW_STORE", "data/store")


class Store:
    """A folder of tables. Opening it makes it, where it does not exist.

    Raises StoreTooNew for a store of a later version, StoreError where the folder is something else.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(url or default_store()).resolve()
        self._prepare()

    @classmethod
    def existing(cls, url: str | os.PathLike[str] | None = None) -> "Store":
        """The store at `url`, which must be there. Raises StoreError where it is not."""
        root = Path(url or default_store()).resolve()
        if not (root / _MARKER).exists():
            raise StoreError(f"there is no store at {root}: run `steer run SPEC.yaml`, or name one with --store")
        return cls(root)

    def _prepare(self) -> None:
        marker = self.root / _MARKER
        if marker.exists():
            version = json.loads(marker.read_text())["version"]
            if version > STORE_VERSION:
                raise StoreTooNew(
                    f"{self.root} was written by store version {version}, this is version {STORE_VERSION}: "
                    "upgrade steerflow, or name another store with --store"
                )
        elif self.root.exists() and any(self.root.iterdir()):
            raise StoreError(f"{self.root} is not a steerflow store and not empty: name another folder with --store")
        for table in TABLES.values():
            publish(self.root / table.name / "schema.parquet", table.schema.empty_table())
        if not marker.exists():
            temporary = marker.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({"version": STORE_VERSION}))
            temporary.replace(marker)
        if not (self.root / _CATALOG).exists():
            self.write_catalog()

    # -- writing -------------------------------------------------------------------------------------------------

    def absent(self, table: str, ids: Iterable[str]) -> set[str]:
        """Those of `ids` (the table's single key column) for which the table has no row."""
        (key,) = TABLES[table].key
        wanted = pa.table({key: pa.array(sorted(set(ids)), pa.string())})
        found = self.query(f'SELECT {key} FROM wanted ANTI JOIN raw."{table}" USING ({key})', wanted=wanted)
        return set(found[key].to_pylist())

    def append(self, table: str, rows: Sequence[Row] | pa.Table) -> None:
        """Publish `rows` as one file, all or nothing. Rows that miss a column or bring one too many are refused."""
        schema = TABLES[table].schema
        if not isinstance(rows, pa.Table):
            for row in rows:
                if set(row) != set(schema.names):
                    wrong = sorted(set(row) ^ set(schema.names))
                    raise StoreError(f"a row of {table} does not have the table's columns: {', '.join(wrong)}")
            rows = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        if rows.num_rows:
            keys = [rows[name].to_pylist() for name in TABLES[table].key]
            publish(self.root / table / f"{content_key(*keys)}.parquet", rows)

    def append_activations(self, model_id: str, rows: pa.Table, row_group_size: int) -> None:
        """Publish a shard of one model's activations, in row groups of that many rows (one a layer)."""
        keys = [rows[name].to_pylist() for name in TABLES["activations"].key]
        path = self.root / "activations" / model_id / f"{content_key(*keys)}.parquet"
        publish(path, rows, row_group_size)

    def append_new(self, table: str, rows: Sequence[Row]) -> int:
        """Append those rows whose key the table does not have yet; how many those were."""
        key = TABLES[table].key
        with self.lock(table):
            wanted = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in key})
            columns = ", ".join(key)
            new = self.query(f'SELECT {columns} FROM wanted ANTI JOIN raw."{table}" USING ({columns})', wanted=wanted)
            new_keys = set(zip(*(new[name].to_pylist() for name in key), strict=True))
            fresh = {tuple(row[name] for name in key): row for row in rows}
            fresh = {k: row for k, row in fresh.items() if k in new_keys}
            self.append(table, list(fresh.values()))
        return len(fresh)

    def check_room(self, size: int) -> None:
        """Raise DiskFull where the store's disk has less room than `size` bytes."""
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise DiskFull(
                f"{size:,} bytes are to be written and the disk of {self.root} has {free:,} free: free some space, ask "
                "for fewer layers or prompts, or name another store with --store"
            )

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold `name` against other processes that compute the same; freed when this process dies."""
        with locked(self.root / "locks" / name):
            yield

    # -- reading -------------------------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] = (), **tables: pa.Table) -> pa.Table:
        """Rows of `sql` over the views and over Arrow `tables` given by name."""
        with self.connect() as connection:
            for name, table in tables.items():
                connection.register(name, table)
            try:
                return connection.sql(sql, params=list(parameters)).to_arrow_table()
            except duckdb.InvalidInputException as error:
                raise StoreDamaged(f"{error}: run `steer store verify`, then run again") from error
            except duckdb.Error as error:
                raise QueryError(str(error)) from error

    def rows(self, sql: str, parameters: Sequence[Any] = (), **tables: pa.Table) -> list[dict[str, Any]]:
        """The same, as a list of dicts."""
        rows: list[dict[str, Any]] = self.query(sql, parameters, **tables).to_pylist()
        return rows

    def connect(self) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB connection with every view of the store."""
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        self._define_views(connection)
        return connection

    def _define_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for table in TABLES:
            pattern = str(self.root / table / "**" / "*.parquet").replace("'", "''")
            connection.execute(f"CREATE OR REPLACE VIEW raw.\"{table}\" AS SELECT * FROM read_parquet('{pattern}')")
        connection.execute((package_files("steering_core.store") / "sql" / "views.sql").read_text())

    def write_catalog(self) -> Path:
        """Write `catalog.duckdb`, views alone, that any DuckDB opens read-only; replaced atomically."""
        path = self.root / _CATALOG
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        with duckdb.connect(temporary, config={"storage_compatibility_version": "v1.5.0"}) as connection:
            self._define_views(connection)
        temporary.replace(path)
        return path


def connect(url: str | os.PathLike[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views of the store at `url`, for reading. Raises StoreError where there is none."""
    return Store.existing(url).connect()
