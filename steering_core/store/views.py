"""Views: every table as DuckDB reads it, and the views that join names to ids; the catalogue holds them for others.

Defining all of them takes 100 ms, most of the time of a `steer` that asks one question. So a connection may define only
those that a query names (`views_in`, `define`).
"""

import re
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files as package_files
from pathlib import Path

import duckdb
import pyarrow as pa

from steering_core.foundation.errors import StoreDamaged, StoreError
from steering_core.foundation.keys import content_key
from steering_core.statistics.metric_names import scores
from steering_core.store.files import LocalFolder
from steering_core.store.folder import Folder
from steering_core.store.names import CATALOG, PIN, quoted
from steering_core.store.tables import TABLES, Table
from steering_core.store.wholeness import pin_again

_DAMAGE = (  # what damaged files raise, beside duckdb.Error itself
    duckdb.InvalidInputException,
    duckdb.IOException,
    duckdb.InternalException,
    duckdb.SerializationException,
)
_TYPES = {
    pa.string(): "VARCHAR",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}
PLACE = "steerflow_store"  # the DuckDB variable by which a copied catalogue is told where its store lies
_RAW = "raw."
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (\w+) AS")
_NAME = re.compile(r'(raw\s*\.\s*|"raw"\s*\.\s*)?"?(\w+)"?')
_CATALOGUE = re.compile(
    r"\b(information_schema|duckdb_\w+|pg_catalog|sqlite_master|pragma|show|describe)\b", re.IGNORECASE
)
_SCHEMA = "MAP(VARCHAR, STRUCT(name VARCHAR, type VARCHAR, default_value VARCHAR))"


def define_views(connection: duckdb.DuckDBPyConnection, folder: Folder) -> None:
    """Have a connection see every table as raw.TABLE, and the named views.

    No file of rows is opened for that. A missing schema is written again. Raises StoreDamaged where the views cannot be
    defined all the same.
    """
    define(connection, folder, every_view())


def every_view() -> list[str]:
    """The names of all views, each after those that it names."""
    return _every(_views_sql())


def views_in(sql: str) -> list[str]:
    """The views that `sql` names, and the views that these name, each after those that it names.

    Every word of `sql` counts as a name. All views are given where `sql` asks DuckDB for its catalogue.
    """
    return list(_named_in(sql, _views_sql()))


def tables_in(sql: str) -> list[str]:
    """The tables that `sql` reads, as `views_in` finds them."""
    return [view.removeprefix(_RAW) for view in views_in(sql) if view.startswith(_RAW)]


def is_damage(error: duckdb.Error) -> bool:
    """Whether a damaged file may have raised an error, and not what was asked.

    Where bytes of a page's header are wrong, it is no class of its own (`TProtocolException: Invalid data`).
    """
    return type(error) is duckdb.Error or isinstance(error, _DAMAGE) or "while reading file" in str(error)


def first_line(error: duckdb.Error) -> str:
    """What DuckDB says of an error, without the statement that it quotes below."""
    return str(error).partition("\n")[0]


def _every(views_sql: str) -> list[str]:
    return [*(f"{_RAW}{table}" for table in TABLES), *_statements(views_sql)]


@lru_cache(maxsize=1024)  # a run asks the same forty questions hundreds of times
def _named_in(sql: str, views_sql: str) -> tuple[str, ...]:
    every = _every(views_sql)
    if _CATALOGUE.search(sql):
        return tuple(every)
    wanted = _words_of(sql)
    for name, text in reversed(_statements(views_sql).items()):
        if name in wanted:
            wanted |= _words_of(text)
    return tuple(name for name in every if name in wanted)


def _words_of(sql: str) -> set[str]:
    return {f"{_RAW}{word}" if raw else word for raw, word in _NAME.findall(sql.lower())}


def define(
    connection: duckdb.DuckDBPyConnection, folder: Folder, views: Sequence[str], in_catalog: bool = False
) -> None:
    """Have a connection see `views`, given in the order of `every_view`. Raises as `define_views` does.

    With `in_catalog` they are those of `catalog.duckdb`, which refuse to be read from a copy that lies elsewhere.
    """
    try:
        _define(connection, folder, views, in_catalog)
    except duckdb.Error as error:
        folder.raise_failure()
        if not folder.writable:
            raise StoreError(
                f"{folder.root} is read-only and cannot be read as it is ({first_line(error)}): copy it"
            ) from error
        pin_again(folder)
        try:
            _define(connection, folder, views, in_catalog)
        except duckdb.Error as again:
            raise StoreDamaged(f"{first_line(again)}: run `steer store verify`, then run again") from again


def _define(connection: duckdb.DuckDBPyConnection, folder: Folder, views: Sequence[str], in_catalog: bool) -> None:
    """Define those views, or none where DuckDB refuses one.

    DuckDB binds a view for itself and for each view that names it, and binding a table's files is slow. So the
    named views are bound over empty tables, which are then replaced by views of the files.
    """
    tables = [TABLES[view.removeprefix(_RAW)] for view in views if view.startswith(_RAW)]
    named = [_named_views()[view] for view in views if not view.startswith(_RAW)]
    empty = [f'CREATE TABLE raw."{table.name}" ({_columns(table)})' for table in tables]
    drop = [f'DROP TABLE raw."{table.name}"' for table in tables]
    connection.execute("BEGIN")
    try:
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for statement in [*empty, *named, *drop] if named else []:
            connection.execute(statement)
        for table in tables:
            rows = _rows_in_place(folder, table) if in_catalog else _rows_of(folder, table)
            connection.execute(f'CREATE VIEW raw."{table.name}" AS {rows}')
    except duckdb.Error:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _rows_of(folder: Folder, table: Table) -> str:
    if not folder.writable and not folder.names(table.name):  # an earlier version's store, which lacks the table
        return f"SELECT * FROM (SELECT {_nulls(table)}) WHERE false"
    once = f" QUALIFY row_number() OVER (PARTITION BY {', '.join(table.key)}) = 1"
    return f"SELECT * FROM {read_table(folder, table)}{'' if folder.exclusive else once}"


def _rows_in_place(folder: Folder, table: Table) -> str:
    """The rows of a table as `catalog.duckdb` reads them: those beside it, or an error.

    DuckDB has no path that is relative to a catalogue: a table function takes no subquery, and a relative pattern
    follows the reader's working directory. So the views name the store's place, a copy that lies elsewhere is refused
    by them instead of read as the original, and a variable names another place.
    """
    return f"SELECT * FROM {read_table(folder, table, _place(folder))} WHERE {_in_place(folder)}"


def _place(folder: Folder) -> str:
    return f"coalesce(getvariable({quoted(PLACE)}), {quoted(folder.url('').rstrip('/'))})"


def _in_place(folder: Folder) -> str:
    """SQL that is true where one of the open databases is the catalogue of this very place; else it is an error."""
    said = (
        f"this catalogue was copied or moved, and its views read the store {folder.root}: open the copy once with "
        f"`steer store info --store FOLDER`, or SET VARIABLE {PLACE} = the folder to read"
    )
    here = f"getvariable({quoted(PLACE)}) IS NOT NULL OR bool_or(path = {quoted(f'{folder.root}/{CATALOG}')})"
    return f"(SELECT CASE WHEN {here} THEN true ELSE error({quoted(said)}) END FROM duckdb_databases())"


def _columns(table: Table) -> str:
    return ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in table.schema)


def read_table(folder: Folder, table: Table, place: str | None = None) -> str:
    """The files of a table, as SQL reads them: the table's own columns, null where a file lacks one.

    The folders of the store's path are no columns (`layer=3/`), and their letters no pattern (`[b]`). `place` is SQL
    for another pattern of the store's own path.
    """
    columns = ", ".join(
        f"{field.name}={{'name': {field.name}, 'type': '{sql_type(field.type)}', 'default_value': NULL}}"
        for field in table.schema
    )
    files = f"{table.name}/**/*.parquet"
    pattern = quoted(folder.url(files)) if place is None else f"{place} || {quoted(f'/{files}')}"
    schema = f"{quoted(f'{{{columns}}}')}::{_SCHEMA}"  # one constant: a MAP of many takes twice as long to bind
    return f"read_parquet({pattern}, hive_partitioning = false, schema = {schema})"


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type."""
    return f"{sql_type(kind.value_type)}[]" if pa.types.is_list(kind) else _TYPES[kind]


def _nulls(table: Table) -> str:
    return ", ".join(f'NULL::{sql_type(field.type)} AS "{field.name}"' for field in table.schema)


def write_catalog(folder: LocalFolder) -> Path:
    """Write `catalog.duckdb`, views alone, that any DuckDB opens read-only; an attempt that fails leaves nothing."""
    with tempfile.TemporaryDirectory() as elsewhere:  # DuckDB cannot write where a path has a `?`
        path = Path(elsewhere, CATALOG)
        try:
            with duckdb.connect(path, config={"storage_compatibility_version": "v1.5.0"}) as connection:
                define(connection, folder, every_view(), in_catalog=True)
        except duckdb.Error as error:
            raise StoreError(f"{path} cannot be written ({error}): free some space, or set TMPDIR") from error
        folder.write(CATALOG, path.read_bytes())
    return folder.root / CATALOG


def views_key(folder: Folder) -> str:
    """A key of all that the views and the catalogue are made of; the folder's place too."""
    tables = [[t.name, *t.key, *(f"{column.name} {column.type}" for column in t.schema)] for t in TABLES.values()]
    reading = f"{read_table(folder, TABLES['models'])} {_rows_in_place(folder, TABLES['models'])}"
    return content_key(_views_sql(), str(folder.root), tables, reading, PIN)


def _views_sql() -> str:
    """The views' SQL, with a column of the leaderboard for each score that it does not name itself."""
    return _with_columns(tuple(score for score in scores() if score != "effect"))


@cache
def _with_columns(wanted: tuple[str, ...]) -> str:
    written = (package_files("steering_core.store") / "sql" / "views.sql").read_text()
    columns = [f"max(value) FILTER (metric = {quoted(score)}) AS {score}," for score in wanted]
    return written.replace("/* every other metric's column */", "\n    ".join(columns))


def _named_views() -> dict[str, str]:
    """The SQL of each named view, in the order of `views.sql`."""
    return _statements(_views_sql())


@cache
def _statements(sql: str) -> dict[str, str]:
    begins = list(_VIEW.finditer(uncommented := re.sub(r"(?m)^--.*$", "", sql)))
    ends = [*(begin.start() for begin in begins[1:]), len(uncommented)]
    return {begin[1]: uncommented[begin.start() : end] for begin, end in zip(begins, ends, strict=True)}
