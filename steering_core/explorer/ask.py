"""Ask: one SELECT over the store's views, from somebody who is not trusted with this machine.

Three walls, each enough by itself for what it covers. The statement's syntax tree, from DuckDB's own parser, must be
one SELECT that names only views and harmless functions. The connection is locked: no files but the store's Parquet, no
extensions, no settings. And it runs within bounds of time, memory and rows (docs/decisions/0016-safe-sql.md).
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from steering_core.errors import QueryError
from steering_core.store import Store
from steering_core.store.select import select_tree

MAX_ROWS = 1_000  # that a page shows
MAX_DOWNLOAD_ROWS = 100_000
MAX_BYTES = 64 << 20
MAX_SECONDS = 10.0
MEMORY = "2GB"
AT_ONCE = 4

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"})
SYSTEM_TABLES = frozenset({"information_schema.tables", "information_schema.columns"})
SHOWN = frozenset({'"tables"', "__show_tables_expanded"})
REFUSED_FUNCTIONS = frozenset(
    {"current_setting", "getenv", "getvariable", "nextval", "currval", "write_log", "sleep_ms", "pg_sleep"}
    | {"query", "query_table", "glob", "read_text", "read_blob", "json_execute_serialized_sql"}
)


@dataclass(frozen=True)
class Answer:
    """Rows of a query; `cut` says that there were more."""

    rows: pa.Table
    cut: bool


class Ask:
    """A locked DuckDB over a store's views; safe to use from several threads."""

    def __init__(self, store: Store, seconds: float = MAX_SECONDS) -> None:
        self._seconds = seconds
        self._connection = store.connect()
        self._views = frozenset(self._names())
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        folder = str(store.root).replace("'", "''")
        self._connection.execute(
            f"SET temp_directory = ''; SET memory_limit = '{MEMORY}'; SET python_enable_replacements = false; "
            f"SET allowed_directories = ['{folder}']; SET enable_external_access = false; "
            "SET lock_configuration = true"
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _names(self) -> Iterator[str]:
        """Every view, as it may be written: `scores`, `main.scores`, `raw.scores`."""
        found = self._connection.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal")
        for schema, view in found.fetchall():
            yield f"{schema}.{view}".lower()
            if schema == "main":
                yield view.lower()

    def answer(self, sql: str, max_rows: int = MAX_ROWS) -> Answer:
        """At most `max_rows` rows of one SELECT. Raises QueryError for anything else, and beyond the bounds."""
        rows = self._run(sql, None, max_rows + 1)
        return Answer(rows.slice(0, max_rows), rows.num_rows > max_rows)

    def own(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The rows of a query of this package's own, on the same locked connection."""
        return self._run(sql, parameters, MAX_DOWNLOAD_ROWS)

    def _run(self, sql: str, own_parameters: Sequence[Any] | None, max_rows: int) -> pa.Table:
        cursor = self._connection.cursor()
        if not self._turns.acquire(timeout=self._seconds):
            raise QueryError("the SQL box is busy with other queries: try again in a moment")
        timer = threading.Timer(self._seconds, cursor.interrupt)
        try:
            if own_parameters is None:
                check(cursor, sql, self._views)
            timer.start()
            rows: pa.Table = cursor.sql(sql, params=own_parameters).limit(max_rows).to_arrow_table()
        except duckdb.InterruptException as error:
            raise QueryError(f"stopped after {self._seconds:g} s: narrow the query, or use `steer sql`") from error
        except duckdb.OutOfMemoryException as error:
            raise QueryError(f"the query needs more than {MEMORY}: narrow it, or use `steer sql`") from error
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        finally:
            timer.cancel()
            cursor.close()
            self._turns.release()
        if rows.nbytes > MAX_BYTES:
            raise QueryError(
                f"the answer is {rows.nbytes >> 20} MiB: ask for fewer columns or rows, or use `steer sql`"
            )
        return rows


def check(connection: duckdb.DuckDBPyConnection, sql: str, views: frozenset[str]) -> None:
    """Raise QueryError unless `sql` is one SELECT that names only `views` and harmless functions."""
    tree = select_tree(connection, sql)
    nodes = list(_nodes(tree))
    named = {str(entry["key"]).lower() for node in nodes if "cte_map" in node for entry in node["cte_map"]["map"]}
    for node in nodes:
        _check_node(node, views | named | SYSTEM_TABLES)


def _check_node(node: dict[str, Any], tables: frozenset[str]) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        name = ".".join(part for part in (node["schema_name"], node["table_name"]) if part).lower()
        if name not in tables or node["catalog_name"]:
            raise QueryError(f"there is no view {name!r}: SHOW TABLES lists those that there are")
    elif kind == "SHOW_REF" and node["table_name"] and node["table_name"] not in SHOWN:
        raise QueryError("of the SHOW statements only SHOW TABLES and SHOW ALL TABLES are allowed here")
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise QueryError(f"the table function {name!r} is not allowed here: views, unnest, range and json_each are")
    elif str(node.get("function_name", "")).lower() in REFUSED_FUNCTIONS:
        raise QueryError(f"the function {node['function_name']!r} is not allowed here")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
