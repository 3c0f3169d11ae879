"""What a statement of the SQL box may name, by the syntax tree that DuckDB's own parser makes of it."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from steering_core.foundation.errors import QueryError
from steering_core.store.select import select_tree

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"})
SYSTEM_TABLES = frozenset({"information_schema.tables", "information_schema.columns"})
SHOWN = frozenset({'"tables"', "__show_tables_expanded"})
REFUSED_FUNCTIONS = frozenset(
    # the process, its settings, its clock, and its log
    {"current_setting", "getenv", "getvariable", "write_log", "parse_duckdb_log_message", "sleep_ms", "pg_sleep"}
    # what changes a state that the next question meets
    | {"nextval", "currval", "setval", "setseed"}
    # statements within a text, and plans, which name files
    | {"query", "query_table", "json_execute_serialized_sql", "json_serialize_plan", "pg_get_viewdef", "stats"}
    # files
    | {"glob", "read_text", "read_blob"}
)
_PLAIN_NAME = re.compile(r"\w+")
ViewNames = frozenset[str]


def views_of(connection: duckdb.DuckDBPyConnection) -> ViewNames:
    """Every view of the store, as it may be written: `scores`, `main.scores`, `raw.scores`."""
    found = connection.execute(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal "
        "UNION ALL SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
    ).fetchall()
    qualified = {f"{schema}.{view}".lower() for schema, view in found}
    return frozenset(qualified | {view.lower() for schema, view in found if schema == "main"})


def system_names(connection: duckdb.DuckDBPyConnection) -> ViewNames:
    """Every name that DuckDB itself gives a table or view in some schema."""
    found = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE internal "
        "UNION SELECT table_name FROM duckdb_tables() WHERE internal"
    )
    return frozenset(name.lower() for (name,) in found.fetchall())


def check(connection: duckdb.DuckDBPyConnection, sql: str, views: ViewNames, system: ViewNames) -> None:
    """Raise QueryError unless `sql` is one SELECT that names only `views`, its own CTEs and harmless functions.

    A CTE's name holds where DuckDB lets it hold, not in the whole statement. None may be one of `system`, nor look like
    a file, so that a mistake about where it holds finds nothing.
    """
    tables = views | SYSTEM_TABLES
    for node, ctes in _scoped(select_tree(connection, sql)):
        for entry in _entries(node):
            _check_cte_name(str(entry["key"]), system)
        _check_node(node, tables, ctes)


def _scoped(tree: Any) -> Iterator[tuple[dict[str, Any], ViewNames]]:
    """Every mapping of a syntax tree, with the names of the CTEs that hold there. A loop: trees may be deep."""
    waiting: list[tuple[Any, ViewNames]] = [(tree, frozenset())]
    while waiting:
        node, ctes = waiting.pop()
        if isinstance(node, list):
            waiting += [(part, ctes) for part in node]
        if not isinstance(node, dict):
            continue
        yield node, ctes
        for entry in _entries(node):  # each sees those before it
            waiting.append((entry, _own_body(entry, ctes)))
            ctes |= {str(entry["key"]).lower()}
        waiting += [(part, ctes) for key, part in node.items() if key != "cte_map"]


def _entries(node: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = node.get("cte_map", {}).get("map", [])
    return entries


def _own_body(entry: dict[str, Any], ctes: ViewNames) -> ViewNames:
    """The CTEs that hold in the body of `entry`: itself too, where it is recursive."""
    body = entry["value"].get("query_node") or {}
    return ctes | {str(entry["key"]).lower()} if body.get("type") == "RECURSIVE_CTE_NODE" else ctes


def _check_cte_name(name: str, system: ViewNames) -> None:
    if name.lower() in system:
        raise QueryError(f"a CTE may not be called {name!r}, as a view of DuckDB's own is: give it another name")
    if not _PLAIN_NAME.fullmatch(name):
        raise QueryError(f"a CTE may not be called {name!r}: use letters, digits and underscores")


def _check_node(node: dict[str, Any], tables: ViewNames, ctes: ViewNames) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        _check_table(node, tables, ctes)
    elif kind == "SHOW_REF" and node["table_name"] and node["table_name"] not in SHOWN:
        raise QueryError("of the SHOW statements only SHOW TABLES and SHOW ALL TABLES are allowed here")
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise QueryError(f"the table function {name!r} is not allowed here: views, unnest, range and json_each are")
    elif str(node.get("function_name", "")).lower() in REFUSED_FUNCTIONS:
        raise QueryError(f"the function {node['function_name']!r} is not allowed here: ask for the views' columns")


def _check_table(node: dict[str, Any], tables: ViewNames, ctes: ViewNames) -> None:
    path = [str(part).lower() for part in node["qualified_name"]["path"]]
    if ".".join(path) not in tables and not (len(path) == 1 and path[0] in ctes):
        name = ".".join(path)
        near = difflib.get_close_matches(name, sorted(tables | ctes), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise QueryError(f"there is no view {name!r}: {hint}SHOW TABLES lists those that there are")
