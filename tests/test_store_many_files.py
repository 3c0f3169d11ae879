"""Many small files: a store merges them by itself, loses nothing by it, and does not wait for readers."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steering_core.store import TABLES, Store, merging, wholeness
from tests.stored import concept_rows

NAMES = [f"c{i:03}" for i in range(100)]


def files(store: Store, table: str = "concepts") -> list[str]:
    return [name for name in store.folder.names(table) if not name.endswith("schema.parquet")]


def names(store: Store) -> list[str]:
    return [row["name"] for row in store.rows("SELECT name FROM concepts ORDER BY name")]


def scatter(store: Store) -> None:
    """A file a row, as a version that merged nothing left them."""
    for name in NAMES:
        rows = pa.Table.from_pylist(concept_rows(name), schema=TABLES["concepts"].schema)
        pq.write_table(rows, Path(store.root, "concepts", f"{wholeness.file_key('concepts', rows)}.parquet"))


def test_what_is_appended_row_by_row_stays_few_files(store: Store) -> None:
    most = 0
    for name in NAMES:
        assert store.append("concepts", concept_rows(name)) == 1
        most = max(most, len(files(store)))
    assert most < merging.MANY
    assert names(store) == NAMES
    assert wholeness.verify(store.folder)[1] == []
    assert store.append("concepts", concept_rows(*NAMES)) == 0


def test_many_files_of_an_earlier_version_are_merged_when_the_store_is_opened(store: Store) -> None:
    scatter(store)
    reopened = Store(store.root)
    assert len(files(reopened)) == 1
    assert names(reopened) == NAMES
    assert wholeness.verify(reopened.folder)[1] == []


def test_a_damaged_file_among_many_is_set_aside_and_the_others_are_merged(store: Store) -> None:
    scatter(store)
    victim = Path(store.root, files(store)[50])
    victim.write_bytes(victim.read_bytes()[:50])
    reopened = Store(store.root)
    assert len(names(reopened)) == len(NAMES) - 1
    assert (Path(store.root) / "damaged" / f"concepts-{victim.name}").exists()


@pytest.mark.parametrize("held", ["concepts", "layout"])
def test_merging_waits_for_nobody(store: Store, held: str) -> None:
    scatter(store)
    with store.folder.lock(held, shared=held == "layout"):
        reopened = Store(store.root)
    assert len(files(reopened)) == len(NAMES)
    assert not [path for path in (Path(store.root) / "staging").rglob("*") if path.is_file()]
    assert names(Store(store.root)) == NAMES


def test_great_files_are_left_alone_and_sizes_are_merged_among_themselves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scatter(store)
    monkeypatch.setattr(merging, "SMALL", 100)
    assert len(files(Store(store.root))) == len(NAMES)


def test_a_store_that_cannot_be_written_is_not_merged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scatter(store)
    with monkeypatch.context() as patched:
        patched.setattr("steering_core.store.files.LocalFolder.writable", False)
        assert names(Store(store.root)) == NAMES
    assert len(files(store)) == len(NAMES)


def test_each_column_has_its_type_in_duckdb(store: Store) -> None:
    with store.connect() as connection:
        for table in TABLES.values():
            found: list[Any] = connection.sql(f'DESCRIBE raw."{table.name}"').fetchall()
            connection.register("empty", table.schema.empty_table())
            expected = connection.sql("DESCRIBE empty").fetchall()
            assert [row[:2] for row in found] == [row[:2] for row in expected], table.name
