"""Rows of whatever DuckDB returns go out in every form of a file, as text where the form has no other."""

import io
import json
from typing import Any

import duckdb
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from steering_core.cli import sql
from steering_core.explorer.table_forms import written
from steering_core.foundation.json_values import plain
from steering_core.store import Store
from steering_core.store.arrow_rows import arrow_rows
from tests.verbs import typed

KEY = "eeccb8c5-9943-b2bb-bb5e-222f4e14b687"


def rows_of(asked: str) -> Any:
    """The rows of a query as the SQL box gets them."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return arrow_rows(connection.sql(asked))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("INTERVAL 3 DAY", "3 days"),
        ("INTERVAL '1 year 2 months -3 days 04:05:06.007'", "1 year 2 months -3 days 04:05:06.007"),
        ("[INTERVAL 1 DAY]", ["1 day"]),
        ("{'a': INTERVAL 1 DAY}", {"a": "1 day"}),
        ("MAP {'a': INTERVAL 1 DAY}", [["a", "1 day"]]),
        ("TIME '12:34:56.000007'", "12:34:56.000007"),
        ("'12:00:00+02'::TIMETZ", "12:00:00+02"),
        ("'\\xAA\\x01ab'::BLOB", "\\xAA\\x01ab"),
        ("['\\xAA'::BLOB]", ["\\xAA"]),
        (f"'{KEY}'::UUID", KEY),
        ("1::HUGEINT", 1),
        ("2::UHUGEINT", 2),
        (f"{2**127 - 1}::HUGEINT", 2**127 - 1),
        ("1.25::DECIMAL(10, 2)", 1.25),
        ("[1.5::DECIMAL(4, 1)]", [1.5]),
        ("12345678901234567890123::BIGNUM", "12345678901234567890123"),
        ("MAP {'a': 1}", [["a", 1]]),
        ("MAP {}", []),
        ("union_value(a := 1)", 1),
        ("{'u': union_value(a := 1)}", {"u": 1}),
        ("'101'::BIT", "101"),
        ("'a'::ENUM('a', 'b')", "a"),
        ("['a'::ENUM('a', 'b')]", ["a"]),
        ("TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", "2020-01-01T00:00:00.123456789"),
        ("'2020-01-01'::TIMESTAMP_S", "2020-01-01T00:00:00"),
        ("'POINT (1 1)'::GEOMETRY", "POINT (1 1)"),
        ("1::VARIANT", "1"),
        ("NULL", None),
    ],
)
def test_every_type_goes_out_in_every_form(value: str, shown: Any) -> None:
    for asked, rows in (
        (f"SELECT {value} AS x", [shown]),
        (f"SELECT {value} AS x UNION ALL SELECT NULL", [shown, None]),
        (f"SELECT {value} AS x WHERE false", []),
    ):
        table = rows_of(asked)
        assert [row["x"] for row in json.loads(written(table, "json"))["rows"]] == rows
        head, *lines = written(table, "csv").decode().splitlines()
        assert (head, len(lines)) == ('"x"', len(rows))
        if rows and shown is not None:
            assert lines[0].strip('"').replace('""', '"').replace(" ", "T" if "T0" in str(shown) else " ") == str(shown)
        stored = pyarrow.parquet.read_table(io.BytesIO(written(table, "parquet")))
        assert (stored.column_names, stored.num_rows) == (["x"], len(rows))
        assert written(table, "arrow")


@pytest.mark.parametrize(
    "interval",
    ["0 days", "-1 day -2 hours", "-13 months 36 hours", "1 microsecond", "100 hours", "-1.5 seconds", "12 months"],
)
def test_an_interval_is_told_in_duckdbs_words(interval: str) -> None:
    with duckdb.connect() as connection:
        told = connection.sql(f"SELECT (INTERVAL '{interval}')::VARCHAR").fetchall()
    (value,) = rows_of(f"SELECT INTERVAL '{interval}' AS x")["x"].to_pylist()
    assert plain(value) == told[0][0]


def test_bytes_are_told_in_duckdbs_words() -> None:
    every = bytes(range(256))
    with duckdb.connect() as connection:
        assert plain(every) == connection.execute("SELECT ?::BLOB::VARCHAR", [every]).fetchall()[0][0]


def test_a_sum_of_whole_numbers_is_a_number(store: Store) -> None:
    asked = "SELECT sum(x) AS s, sum(x * 0.5) AS half FROM range(10) t(x)"
    table = store.query(asked)
    assert str(table.schema.field("s").type) == "int64"
    assert table["s"].to_pylist() == [45]
    assert typed(sql.app, asked, "--store", str(store.root), "--format", "json") == [{"s": 45, "half": 22.5}]
    intervals = ["SELECT INTERVAL 3 DAY AS i, 'ab'::BLOB AS b", "--store", str(store.root), "--format", "csv"]
    assert CliRunner().invoke(sql.app, intervals).stdout == "i,b\n3 days,ab\n"


def test_columns_of_one_name_both_go_out() -> None:
    (row,) = json.loads(written(rows_of("SELECT 1 AS a, 2 AS a, '1'::BIT AS a"), "json"))["rows"]
    assert row == {"a": 1, "a_1": 2, "a_2": "1"}
