"""Damaged stores: whatever lies under a table's name, no query takes it for rows, and no intact row is lost."""

import datetime
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steering_core.concepts.stored import stored_concept
from steering_core.foundation.errors import StoreDamaged, StoreError, VectorError
from steering_core.models import Model
from steering_core.store import Store, upkeep, wholeness
from steering_core.store.tables import TABLES
from steering_core.store.views import is_damage
from steering_core.vectors.stored import vectors_by_id
from tests.stored import concept_rows, vector


def made_up(table: str, text: str) -> dict[str, Any]:
    """A row of a table with a value in every column."""
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    values: dict[str, Any] = {"string": text, "bool": True, "double": 1.5, "float": 1.5, "int32": 1, "int64": 1}
    return {
        field.name: [values[str(field.type.value_type)]] if pa.types.is_list(field.type) else
        values.get(str(field.type), moment)
        for field in TABLES[table].schema
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two files of a row in every table."""
    store = Store(tmp_path_factory.mktemp("whole") / "store")
    for table in TABLES:
        for text in ("kept", "victim"):
            store.append(table, [made_up(table, text)])
    return Path(store.root)


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def victims(root: Path) -> Iterator[tuple[str, Path]]:
    """Each table, with its file of the row `victim`."""
    for table in TABLES:
        name = wholeness.file_key(table, pa.Table.from_pylist([made_up(table, "victim")], schema=TABLES[table].schema))
        yield table, root / table / f"{name}.parquet"


def of_other_columns(table: str, path: Path) -> None:
    pq.write_table(pa.table({"foo": [1, 2], "bar": ["a", "b"]}), path)


def of_another_table(table: str, path: Path) -> None:
    other = "scores" if table == "runs" else "runs"
    pq.write_table(pa.Table.from_pylist([made_up(other, "x")], schema=TABLES[other].schema), path)


def of_other_types(table: str, path: Path) -> None:
    rows = pq.read_table(path)
    pq.write_table(pa.table({name: pa.array([b"\xff"]) for name in rows.column_names}), path)


def of_no_rows(table: str, path: Path) -> None:
    pq.write_table(TABLES[table].schema.empty_table(), path)


def of_null_keys(table: str, path: Path) -> None:
    rows, key = pq.read_table(path), TABLES[table].key[0]
    at = rows.column_names.index(key)
    pq.write_table(rows.set_column(at, rows.schema.field(at), pa.nulls(1, rows.schema.field(at).type)), path)


def copied_twice(table: str, path: Path) -> None:
    path.rename(path.with_name("one.parquet"))
    shutil.copy(path.with_name("one.parquet"), path.with_name("one copy.parquet"))


def of_text(table: str, path: Path) -> None:
    path.write_text("notes of mine\n")


def torn_in_its_rows(table: str, path: Path) -> None:
    """The footer stays as it was, and what stands before it is another file's."""
    content, kept = path.read_bytes(), 8 + int.from_bytes(path.read_bytes()[-8:-4], "little")
    path.write_bytes(b"PAR1" + b"\x15" * (len(content) - kept - 4) + content[-kept:])


DAMAGES = [of_other_columns, of_another_table, of_other_types, of_no_rows, of_null_keys, copied_twice, of_text]
DAMAGES += [torn_in_its_rows]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_file_of_its_table_is_set_aside_by_the_query_that_meets_it(
    root: Path, damage: Callable[[str, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for table, path in victims(root):
        damage(table, path)
    store = Store.existing(root)
    for table, path in victims(root):
        key = TABLES[table].key[0]
        assert store.rows(f'SELECT {key} AS key, count(*) OVER () AS n FROM raw."{table}"') == [{"key": "kept", "n": 1}]
        assert f"{table}/{path.name} is damaged" in caplog.text or damage is copied_twice
    assert wholeness.verify(store.folder)[1] == []
    assert len(list((root / "damaged").iterdir())) == len(TABLES) * (2 if damage is copied_twice else 1)


def test_rows_in_a_schema_are_no_rows(root: Path) -> None:
    for table in TABLES:
        of_other_columns(table, root / table / "schema.parquet")
    store = Store.existing(root)
    assert {found["rows"] for found in upkeep.tables(store)} == {2}
    assert all(pq.read_schema(root / table / "schema.parquet") == TABLES[table].schema for table in TABLES)


@pytest.mark.parametrize("table", ["models", "concepts", "prompts", "activations", "vectors", "gates"])
def test_a_null_where_no_row_has_one_is_set_aside(root: Path, table: str, caplog: pytest.LogCaptureFixture) -> None:
    path = dict(victims(root))[table]
    rows = pq.read_table(path)
    for column in TABLES[table].filled:
        field = rows.schema.field(column)
        holed = pa.nulls(1, field.type)
        pq.write_table(rows.set_column(rows.column_names.index(column), field, holed), path)
        assert Store.existing(root).rows(f'SELECT count(*) AS n FROM raw."{table}"') == [{"n": 1}]
        assert f"nulls in {column}, which no row of {table} leaves empty" in caplog.text
    assert len(list((root / "damaged").iterdir())) == len(TABLES[table].filled)  # none in the place of another


def test_a_null_within_a_direction_is_set_aside(root: Path) -> None:
    path = dict(victims(root))["vectors"]
    rows = pq.read_table(path)
    holed = pa.array([[1.0, None]], rows.schema.field("vector").type)
    pq.write_table(rows.set_column(rows.column_names.index("vector"), "vector", holed), path)
    assert Store.existing(root).rows("SELECT count(*) AS n FROM raw.vectors") == [{"n": 1}]


def test_columns_that_an_older_release_lacks_are_null_as_ever(root: Path) -> None:
    path = dict(victims(root))["models"]
    pq.write_table(pq.read_table(path).drop_columns(["template", "system_role"]), path)
    assert Store.existing(root).rows("SELECT template FROM raw.models ORDER BY ALL NULLS FIRST") == [
        {"template": None},
        {"template": "kept"},
    ]
    assert not (root / "damaged").exists()


def test_columns_that_a_later_release_may_add_are_left_alone_by_queries(root: Path) -> None:
    path = dict(victims(root))["models"]
    pq.write_table(pq.read_table(path).append_column("later", pa.array(["more"])), path)
    found = Store.existing(root).rows("SELECT name FROM raw.models ORDER BY name")
    assert [row["name"] for row in found] == ["kept", "victim"]
    assert not (root / "damaged").exists()


def test_a_file_is_looked_at_once_and_its_own_never(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr("steering_core.store.checked.suspect", lambda folder, table, name: looked.append(name))
    store.append("concepts", concept_rows("a"))
    for _ in range(3):
        store.rows("SELECT name FROM raw.concepts")
    assert looked == ["concepts/schema.parquet"]


def test_errors_of_damage_are_told_from_those_of_a_question() -> None:
    assert is_damage(duckdb.Error("TProtocolException: Invalid data"))
    assert not is_damage(duckdb.ConversionException("Could not convert string 'a' to INT32"))
    assert not is_damage(duckdb.BinderException("Referenced column"))


def test_a_store_that_cannot_be_written_names_its_damaged_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dict(victims(root))["runs"]
    path.write_bytes(b"")
    store = Store.existing(root)

    def refused(*_: object) -> None:
        raise StoreError("it can be read, not written")

    monkeypatch.setattr(store.folder, "move", refused)
    with pytest.raises(StoreDamaged, match=r"runs/\w+\.parquet is damaged .* `steer store verify --store COPY`"):
        store.rows("SELECT * FROM raw.runs")
    assert path.exists()


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [1.0, float("nan")], [float("inf"), 0.0]])
def test_a_direction_that_is_none_is_one_error(store: Store, numbers: list[float]) -> None:
    store.append("vectors", [vector().row() | {"vector": numbers}])
    with pytest.raises(StoreDamaged, match="where steerflow writes a direction: another program wrote this store"):
        vectors_by_id(store, [vector().vector_id])


def test_a_direction_of_another_width_is_one_error(tiny: Model) -> None:
    with pytest.raises(VectorError, match="its direction is of size 16, and the residual stream has width 32"):
        vector(model_id=tiny.identity.model_id).check(tiny.identity)


def test_a_folder_of_locks_that_may_not_be_entered_is_one_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", _forbidden)
    with pytest.raises(StoreError, match=r"locks cannot be read \(Permission denied\): have it made readable"):
        store.folder.reading()


def _forbidden(*_: object) -> bool:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_folder_in_place_of_a_file_is_named(store: Store) -> None:
    (Path(store.root) / "catalog.duckdb").mkdir()
    with pytest.raises(StoreError, match=r"catalog\.duckdb is a folder, where a store has a file: move it elsewhere"):
        store.folder.write("catalog.duckdb", b"")


def test_a_concept_that_is_none_is_one_error(root: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"raw\.concepts\.definition holds 'kept'"):
        stored_concept(Store.existing(root), "kept")
    assert stored_concept(Store.existing(root), "other") is None
