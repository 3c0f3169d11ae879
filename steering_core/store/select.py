"""SELECT: what somebody typed is one question to the store, and nothing else, by DuckDB's own parser."""

import json
import re
from typing import Any

import duckdb

from steering_core.foundation.errors import QueryError

_TOO_DEEP = "this is nested too deeply: name its parts in a WITH, or give a list in place of a chain"

_ONE_SELECT = "only one SELECT (or SHOW TABLES, DESCRIBE, SUMMARIZE) is allowed: DuckDB itself does the rest"
_PIVOT = re.compile(r"\bPIVOT\b", re.IGNORECASE)
_NO_VALUES = (
    "a PIVOT needs its values here, PIVOT … ON column IN ('a', 'b') USING …: without them DuckDB runs several "
    "statements, and only one SELECT is allowed"
)


def select_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """The syntax tree of `sql`. Raises QueryError unless it is one SELECT (or FROM, SHOW, DESCRIBE, SUMMARIZE)."""
    (text,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0]
    try:
        tree: dict[str, Any] = json.loads(text)
    except RecursionError:
        raise QueryError(_TOO_DEEP) from None
    if tree.get("error"):
        message = tree["error_message"]
        if tree.get("error_type") == "not implemented":
            message = _NO_VALUES if _PIVOT.search(sql) else _ONE_SELECT
        raise QueryError(_TOO_DEEP if "max_expression_depth" in message else message)
    if not tree["statements"]:
        raise QueryError("there is no SQL in this: give one SELECT, or SHOW TABLES")
    if len(tree["statements"]) > 1:
        raise QueryError(f"these are {len(tree['statements'])} statements: give one SELECT")
    return tree


_UNKNOWN_COLUMN = re.compile(r'Referenced column "([^"]+)"')


def with_quotes_told(sql: str, message: str) -> str:
    """DuckDB's message; where a text was taken for a column's name, with a sentence on quotes."""
    found = _UNKNOWN_COLUMN.search(message)
    if not found or not re.search(rf'(=|<>|[(,]|\blike\s|\bilike\s)\s*"?{re.escape(found[1])}"?', sql, re.IGNORECASE):
        return message
    return f"{message}\n{found[1]} was read as a column: a text takes single quotes, '{found[1]}'"
