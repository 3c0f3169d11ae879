"""What a process knows of its tables is what DuckDB would answer, and DuckDB is asked where it is not known."""

from pathlib import Path

import pytest

from steering_core.store import TABLES, Store, known, merging
from tests.stored import concept_rows


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL that stores are asked from now on."""
    asked: list[str] = []
    query = Store.query
    monkeypatch.setattr(Store, "query", lambda self, sql, *a, **kw: asked.append(sql) or query(self, sql, *a, **kw))
    return asked


def measurement(i: int) -> dict[str, object]:
    row = dict.fromkeys(TABLES["measurements"].schema.names)
    named = {"measurement_id": f"m{i}", "intervention_id": "x", "metric": "kl", "value": i / 3, "subject_id": f"s{i}"}
    return {**row, **named}


def recalled(i: int) -> dict[str, object]:
    return {"intervention_id": "x", "control": None, "metric": "kl", "value": i / 3, "subject_id": f"s{i}"}


def test_rows_are_recalled_without_a_question_by_who_appended_them_and_as_they_lie_by_another(
    store: Store, asked: list[str]
) -> None:
    store.append("measurements", [measurement(i) for i in (2, 0, 1)])
    assert list(store.recall("measurements", ["m2", "m1", "nothing"]).items()) == [
        ("m1", recalled(1)),
        ("m2", recalled(2)),
    ]
    assert asked == []
    other = Store(store.root)
    assert other.recall("measurements", ["m2", "m1", "nothing"]) == store.recall("measurements", ["m1", "m2"])
    assert len(asked) == 1


def test_a_table_that_it_had_merged_is_read_once(store: Store, asked: list[str]) -> None:
    for i in range(merging.MANY + 3):
        assert store.append("measurements", [measurement(i)]) == 1
    assert len(store.folder.names("measurements")) < merging.MANY  # they were merged
    assert store.absent("measurements", ["m0", "m33", "m99"]) == {"m99"}
    assert len(asked) == 1


def test_what_is_gone_from_the_table_is_absent_again(store: Store) -> None:
    for name in "ab":
        store.append("concepts", concept_rows(name))
    first = next(row["concept_id"] for row in store.rows("FROM raw.concepts") if row["name"] == "a")
    gone = next(name for name in store.folder.names("concepts") if _has(store, name, first))
    store.folder.remove(gone)
    assert store.absent("concepts", [first]) == {first}
    assert store.append("concepts", concept_rows("a")) == 1


def _has(store: Store, name: str, concept_id: str) -> bool:
    path = Path(store.root, name)
    return "schema" not in name and store.rows(f"SELECT 1 FROM '{path}' WHERE concept_id = ?", [concept_id]) != []


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_of_a_large_table_duckdb_is_asked_and_says_the_same(
    store: Store, asked: list[str], monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setattr(known, "MOST", 2)
    for i in range(4):
        assert store.append("measurements", [measurement(i)]) == 1
    large = store if whose == "its own" else Store(store.root)
    asked.clear()
    assert large.append("measurements", [measurement(3), measurement(4)]) == 1
    assert large.absent("measurements", ["m4", "m5"]) == {"m5"}
    assert large.recall("measurements", ["m4", "m1", "m5"]) == {"m1": recalled(1), "m4": recalled(4)}
    assert len(asked) >= 3
