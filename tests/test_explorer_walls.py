"""Everything that DuckDB lists of itself, tried on the SQL box: refused, or it tells nothing and changes nothing.

The lists are DuckDB's own (`duckdb_functions()`, `duckdb_settings()`, `duckdb_views()`), so what a release adds
is tried without a word written here.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from steering_core.explorer.ask import Ask
from steering_core.explorer.box import lock
from steering_core.explorer.statement import REFUSED_FUNCTIONS, TABLE_FUNCTIONS
from steering_core.foundation.errors import QueryError
from steering_core.store import Store
from tests.explorer import MODEL
from tests.watchdog import watchdog

SECRET = "the secret of this test"
PLACE = "a-telling-name"  # of the store's folder
HARMLESS_UNSTABLE = {  # what DuckDB calls volatile, or fixed within a query: clocks, dice, and this connection's names
    *("age", "ago", "current_date", "current_localtime", "current_localtimestamp", "get_current_time", "now", "today"),
    *("get_current_timestamp", "transaction_timestamp", "random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"),
    *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "txid_current"),
    *("current_database", "current_schema", "current_schemas", "in_search_path", "error", "vector_type"),
}


def listed(sql: str) -> list[str]:
    """A column of what a bare DuckDB says of itself."""
    with duckdb.connect() as connection:
        found = [name for (name,) in connection.execute(sql).fetchall()]
    assert found
    return found


FUNCTIONS = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN"
TABLE_LIKE = listed(f"{FUNCTIONS} ('table', 'table_macro', 'pragma') ORDER BY ALL")
SCALAR = listed(
    f"{FUNCTIONS} ('scalar', 'aggregate', 'macro', 'window') "
    "AND regexp_full_match(function_name, '[A-Za-z_0-9]+') AND NOT contains(function_name, 'collate_') ORDER BY ALL"
)
UNSTABLE = listed(
    f"{FUNCTIONS} ('scalar', 'aggregate', 'macro') AND (has_side_effects OR stability <> 'CONSISTENT') ORDER BY ALL"
)
SETTINGS = listed("SELECT name FROM duckdb_settings() ORDER BY ALL")
SYSTEM = listed("SELECT DISTINCT schema_name || '.' || view_name FROM duckdb_views() WHERE internal ORDER BY ALL")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("walls") / PLACE)
    store.append("models", [MODEL])
    return store


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file outside the store that can be read as text, CSV and JSON."""
    path = tmp_path_factory.mktemp("outside") / "secret.csv"
    path.write_text(f'"{SECRET}"\n')
    return path


@pytest.fixture(scope="module")
def asked(store: Store) -> Iterator[Ask]:
    ask = Ask(store, seconds=5.0)
    with watchdog(3 << 30):
        yield ask
    ask.close()


@pytest.fixture(scope="module")
def locked(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """The second wall by itself, without the first."""
    connection = store.connect()
    lock(connection, store, 1 << 30)
    yield connection
    connection.close()


def told(asked: Ask, sql: str) -> str:
    """All that a statement gives away, its error included; `refused: …` where it was not run."""
    try:
        return str(asked.answer(sql, 100).rows.to_pylist())
    except QueryError as error:
        return f"refused: {error}"


def test_every_table_function_is_refused_but_those_that_make_rows_of_their_arguments(asked: Ask, secret: Path) -> None:
    for name in TABLE_LIKE:
        for arguments in ("", "'models'", f"'{secret}'"):
            for sql in (f"SELECT * FROM {name}({arguments})", f"SELECT * FROM system.main.{name}({arguments})"):
                said = told(asked, sql)
                assert said.startswith("refused: ") or name in TABLE_FUNCTIONS, f"{sql}: {said}"
                assert SECRET not in said, sql
                assert PLACE not in said, sql
        for sql in (f"PRAGMA {name}", f"CALL {name}()"):
            assert told(asked, sql).startswith("refused: "), sql


def test_no_table_function_opens_a_file_outside_the_store_on_the_locked_connection(
    locked: duckdb.DuckDBPyConnection, secret: Path
) -> None:
    for name in set(TABLE_LIKE) - {"python_map_function", "pandas_scan", "arrow_scan", "arrow_scan_dumb"}:  # pointers
        rows: list[object] = []
        with contextlib.suppress(duckdb.Error):
            rows = locked.execute(f"SELECT * FROM {name}('{secret}')").fetchmany(10)
        assert SECRET not in str(rows), name


def test_no_scalar_function_tells_of_the_machine(asked: Ask, secret: Path) -> None:
    for name in SCALAR:
        for arguments in ("", "'models'", f"'{secret}'", "'allowed_directories'"):
            said = told(asked, f"SELECT {name}({arguments}) AS x")
            assert SECRET not in said, f"{name}({arguments}): {said}"
            assert PLACE not in said, f"{name}({arguments}): {said}"


def test_every_function_that_is_not_the_same_each_time_was_judged() -> None:
    """A release that brings another stops here: refuse it in `statement`, or write it down as harmless."""
    assert set(UNSTABLE) - REFUSED_FUNCTIONS <= HARMLESS_UNSTABLE


def test_every_view_of_duckdbs_own_is_refused_but_two_that_list_tables(asked: Ask) -> None:
    for name in SYSTEM:
        allowed = name in ("information_schema.tables", "information_schema.columns")
        for sql in (f"SELECT * FROM {name}", f"SELECT * FROM {name.partition('.')[2]}", f"SUMMARIZE {name}"):
            said = told(asked, sql)
            assert said.startswith("refused: ") or allowed, sql
            assert PLACE not in said, sql


def test_no_setting_is_read_or_changed(asked: Ask) -> None:
    for name in SETTINGS:
        for sql in (f"SET {name} = 1", f"RESET {name}", f"PRAGMA {name} = 1", f"SELECT current_setting('{name}')"):
            assert told(asked, sql).startswith("refused: "), sql


def test_no_setting_is_changed_on_the_locked_connection(locked: duckdb.DuckDBPyConnection) -> None:
    before = locked.execute("FROM duckdb_settings() ORDER BY name").fetchall()
    for name in SETTINGS:
        for sql in (f"SET {name} = 1", f"SET GLOBAL {name} = 1", f"RESET {name}", f"PRAGMA {name} = 1"):
            with contextlib.suppress(duckdb.Error):
                locked.execute(sql)
    assert locked.execute("FROM duckdb_settings() ORDER BY name").fetchall() == before
