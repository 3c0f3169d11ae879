"""The SQL box: it answers what it should, and no statement reaches files, settings or anything else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from steering_core.explorer.ask import Ask
from steering_core.explorer.box import lock
from steering_core.explorer.table_forms import written
from steering_core.foundation.errors import QueryError
from steering_core.store import Store
from tests.explorer import MODEL


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one model."""
    store = Store(tmp_path_factory.mktemp("asked") / "store")
    store.append("models", [MODEL])
    return store


@pytest.fixture(scope="module")
def asked(store: Store) -> Iterator[Ask]:
    ask = Ask(store, seconds=2.0)
    yield ask
    ask.close()


@pytest.fixture
def locked(store: Store) -> duckdb.DuckDBPyConnection:
    """The second wall by itself, without the first: the connection that a question meets."""
    connection = store.connect()
    lock(connection, store, 1 << 30)
    return connection


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM models",
        "FROM models SELECT name",
        "WITH m AS (SELECT * FROM models) SELECT name FROM m WHERE n_layers = 4",
        "SELECT name FROM main.models",
        "SELECT name FROM raw.models -- with a comment",
        "SELECT name FROM models, range(1)",
        "SELECT name FROM models WHERE name IN (SELECT unnest(['tiny']));",
        "WITH a AS (SELECT * FROM models), b AS (SELECT * FROM A) SELECT name FROM (SELECT * FROM b), (SELECT 1)",
        "WITH m AS (SELECT * FROM models) SELECT name FROM models WHERE EXISTS (SELECT 1 FROM m)",
        "WITH a AS (WITH b AS (SELECT * FROM models) SELECT * FROM b) SELECT name FROM a",
        "WITH m AS (SELECT * FROM models) (SELECT name FROM m) UNION (SELECT name FROM m)",
        "WITH models AS (SELECT * FROM models) SELECT name FROM models",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 4) "
        "SELECT name FROM models JOIN r ON n = n_layers",
        "SELECT name FROM models, LATERAL (WITH x AS (SELECT n_layers) SELECT * FROM x)",
    ],
)
def test_a_select_is_answered(asked: Ask, sql: str) -> None:
    assert asked.answer(sql).rows["name"].to_pylist() == ["tiny"]


@pytest.mark.parametrize("sql", ["SHOW TABLES", "DESCRIBE models", "SUMMARIZE models", "VALUES (1)", "SELECT 1"])
def test_what_helps_to_look_around_is_answered(asked: Ask, sql: str) -> None:
    assert asked.answer(sql).rows.num_rows > 0


def refused(root: Path) -> list[str]:
    store = str(root)
    return [
        f"COPY (SELECT 1) TO '{store}/evil.csv'",
        "COPY models TO '/tmp/evil.csv'",
        f"COPY models FROM '{store}/models/schema.parquet'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_json('/etc/passwd')",
        f"SELECT * FROM read_parquet('{store}/models/*.parquet')",
        f"SELECT * FROM parquet_metadata('{store}/models/schema.parquet')",
        f"SELECT * FROM '{store}/models/schema.parquet'",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        f"SELECT * FROM glob('{store}/*')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT * FROM models WHERE name IN (SELECT content FROM read_text('/etc/passwd'))",
        "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
        "SELECT * FROM models UNION ALL SELECT content FROM read_text('/etc/passwd')",
        "DESCRIBE SELECT * FROM read_text('/etc/passwd')",
        "SUMMARIZE SELECT * FROM glob('/etc/*')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('models')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "ATTACH '/tmp/evil.db'",
        "ATTACH ':memory:' AS evil",
        "DETACH memory",
        "USE raw",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FORCE INSTALL httpfs FROM 'http://127.0.0.1:1'",
        "PRAGMA version",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "RESET allowed_directories",
        "SET VARIABLE x = 1",
        "SELECT getvariable('x')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('allowed_directories')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_views",
        "SELECT sql FROM sqlite_master",
        "SELECT * FROM duckdb_secrets()",
        "SELECT write_log('x')",
        "SELECT sleep_ms(100000)",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO '/tmp/evil.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/evil.csv'",
        f"EXPORT DATABASE '{store}/export'",
        f"IMPORT DATABASE '{store}'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE OR REPLACE VIEW models AS SELECT 1",
        "CREATE MACRO f() AS TABLE SELECT * FROM read_text('/etc/passwd')",
        "DROP VIEW models",
        "INSERT INTO models VALUES (1)",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "SELECT * FROM asked",
        "SELECT nonsense FROM models",
        "not sql",
        "",
        ";",
    ]


def out_of_scope(name: str) -> list[str]:
    """Statements in which a CTE of that name holds somewhere else than where the name is asked for."""
    return [
        f"SELECT z.* FROM {name} z, (WITH {name} AS (SELECT 1) SELECT 2) y",
        f"SELECT (WITH {name} AS (SELECT 1) SELECT 2), z.* FROM {name} z",
        f"WITH {name} AS (SELECT * FROM {name}) SELECT * FROM {name}",
        f"WITH RECURSIVE {name} AS (SELECT * FROM {name}) SELECT * FROM {name}",
        f"WITH a AS (SELECT * FROM {name}), {name} AS (SELECT 1) SELECT * FROM a",
        f"WITH a AS (WITH {name} AS (SELECT 1) SELECT 1) SELECT * FROM {name}",
        f"(WITH {name} AS (SELECT 1 AS x) SELECT * FROM {name}) UNION ALL BY NAME (SELECT * FROM {name})",
        f"SELECT * FROM {name} WHERE EXISTS (WITH {name} AS (SELECT 1) SELECT 2)",
        f"WITH {name} AS (SELECT 1) SELECT * FROM main.{name}",
        f"WITH {name} AS (SELECT 1) SELECT * FROM system.main.{name}",
        f"SUMMARIZE (WITH a AS (WITH {name} AS (SELECT 1) SELECT 1) SELECT * FROM {name})",
    ]


@pytest.mark.parametrize("name", ["pg_settings", "PG_Settings", "duckdb_views", "sqlite_master", "elsewhere"])
def test_the_name_of_a_cte_holds_where_it_holds_and_nowhere_else(asked: Ask, name: str) -> None:
    for sql in out_of_scope(name):
        with pytest.raises(QueryError, match=r"there is no view|a CTE may not be called"):
            asked.answer(sql)


def test_a_cte_does_not_open_files_of_the_store_by_their_names(asked: Ask, store: Store) -> None:
    for pattern in (f"{store.root}/models/*.parquet", f"{store.root}/models/schema.parquet"):
        for sql in out_of_scope(f'"{pattern}"'):
            with pytest.raises(QueryError, match=r"there is no view|a CTE may not be called"):
                asked.answer(sql)


def _is_refused(asked: Ask, sql: str) -> bool:
    try:
        asked.answer(sql)
    except QueryError:
        return True
    return False


def test_everything_else_is_refused_and_leaves_no_trace(asked: Ask, store: Store) -> None:
    files = sorted(store.root.rglob("*"))
    for sql in refused(store.root):
        assert _is_refused(asked, sql), sql
    assert sorted(store.root.rglob("*")) == files
    assert not Path("/tmp/evil.csv").exists()
    assert asked.answer("SELECT name FROM models").rows.num_rows == 1


def test_the_connection_alone_keeps_files_outside_the_store_shut(locked: duckdb.DuckDBPyConnection) -> None:
    for sql in (
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/evil.csv'",
        "ATTACH '/tmp/evil.db'",
    ):
        with pytest.raises(Exception, match="file system operations are disabled"):
            locked.execute(sql)
    with pytest.raises(Exception, match="locked"):
        locked.execute("SET enable_external_access = true")


def test_an_endless_query_is_stopped_in_time(asked: Ask) -> None:
    started = time.monotonic()
    with pytest.raises(QueryError, match="stopped after 2 s"):
        asked.answer("SELECT count(*) FROM range(1_000_000_000) WHERE hash(md5(range::VARCHAR)) = 3")
    assert time.monotonic() - started < 5


def test_rows_are_bounded_and_the_cut_is_told(asked: Ask) -> None:
    answer = asked.answer("SELECT * FROM range(100)", max_rows=10)
    assert (answer.rows.num_rows, answer.cut) == (10, True)
    assert not asked.answer("SELECT * FROM range(10)", max_rows=10).cut


def test_an_answer_that_is_too_large_is_refused(asked: Ask) -> None:
    with pytest.raises(QueryError, match=r"MiB|memory|GB"):
        asked.answer("SELECT repeat('x', 20_000_000) FROM range(5)")


def test_new_rows_are_seen_by_a_connection_that_was_open_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.append("models", [MODEL])
    asked = Ask(store)
    assert asked.answer("SELECT name FROM models").rows.num_rows == 1
    store.append("models", [{**MODEL, "model_id": "n", "name": "other"}])
    assert asked.answer("SELECT name FROM models ORDER BY name").rows["name"].to_pylist() == ["other", "tiny"]
    assert str(store.root) not in str(asked.answer("SHOW TABLES").rows.to_pylist())
    asked.close()


@pytest.mark.parametrize(
    ("sql", "meant"),
    [
        ("SELECT * FROM leaderbord", "'leaderboard'"),
        ("SELECT * FROM raw.modles", "'raw.models'"),
        ("WITH mine AS (SELECT 1) SELECT * FROM mien", "'mine'"),
        ("SELECT nme FROM models", '"name"'),
        ("SELECT rond(1.5)", '"round"'),
    ],
)
def test_a_misspelt_name_is_met_with_the_nearest(asked: Ask, sql: str, meant: str) -> None:
    with pytest.raises(QueryError, match=f"(?i)(did you mean|candidate bindings:).*{meant}"):
        asked.answer(sql)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("'20000-01-01'::TIMESTAMP", "20000-01-01 00:00:00.000000"),
        ("'20000-01-01'::TIMESTAMPTZ", "20000-01-01 00:00:00.000000"),
        ("'infinity'::TIMESTAMPTZ", f"<value out of range: {2**63 - 1}>"),
        ("'0044-03-15 (BC)'::DATE", "-0043-03-15"),
        ("'infinity'::DATE", f"<value out of range: {2**31 - 1}>"),
        ("[{'when': 'infinity'::DATE}]", [{"when": f"<value out of range: {2**31 - 1}>"}]),
        ("'2020-01-02'::DATE", "2020-01-02"),
    ],
)
def test_times_that_python_has_no_value_for_go_out_as_text(value: str, shown: object) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        table = connection.sql(f"SELECT {value} AS x UNION ALL SELECT NULL").to_arrow_table()
    assert sorted(json.loads(written(table, "json"))["rows"], key=str) == sorted([{"x": shown}, {"x": None}], key=str)
    assert str(shown) in written(table, "csv").decode()
