"""Upkeep of the store: merging, dropping, and what a hand deleted."""

import dataclasses
import logging
import threading
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steering_core.models import Model
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store, garbage, upkeep, wholeness
from steering_core.store.tables import TABLES
from tests.shards import count, extracted, shard_paths
from tests.stored import concept_rows, fill, identity, made_up_concept, planted_directions, vector

pytestmark = pytest.mark.usefixtures("catalogues")  # they prove stores as they are


def values(store: Store) -> dict[tuple[str, int], np.ndarray]:
    rows = store.rows("SELECT prompt_id, layer, activation FROM raw.activations")
    return {(row["prompt_id"], row["layer"]): np.array(row["activation"]) for row in rows}


def test_compaction_keeps_every_row_while_readers_read(
    tiny: Model, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering_core.activations.shards.SHARD_PROMPTS", 2)
    n = extracted(tiny, store)
    for name in "abcdef":
        store.append("concepts", concept_rows(name))
    before, seen, stop = values(store), set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(count(store))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    done = upkeep.compact(store)
    stop.set()
    for reader in readers:
        reader.join()
    assert seen == {(4 * n, 4 * n)}
    assert {e.table: e.files_after for e in done} == {"activations": 1, "concepts": 1}
    (shard,) = shard_paths(store)
    assert pq.read_metadata(shard).num_row_groups == 4
    after = values(store)
    assert after.keys() == before.keys()
    assert all((after[key] == before[key]).all() for key in before)
    assert wholeness.verify(store.folder)[1] == []
    assert upkeep.compact(store) == []
    assert extracted(tiny, store) == 0


@pytest.mark.parametrize("step", range(1, 8))
def test_a_compaction_killed_at_any_step_is_finished_by_the_next_to_open(
    tiny: Model, store: Store, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr("steering_core.activations.shards.SHARD_PROMPTS", 12)
    n = extracted(tiny, store)
    steps = 0

    def counted(method: Any) -> Any:
        def either(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step:
                raise KeyboardInterrupt  # as good as a kill: nothing after it runs
            return method(*args, **kwargs)

        return either

    with monkeypatch.context() as patched:
        for name in ("publish", "write", "move", "remove"):
            patched.setattr(store.folder, name, counted(getattr(store.folder, name)))
        try:
            upkeep.compact(store)
        except KeyboardInterrupt:
            pass
        else:
            assert step > steps
    reopened = Store(store.root)
    assert count(reopened) == (4 * n, 4 * n)
    upkeep.compact(reopened)
    assert count(reopened) == (4 * n, 4 * n)
    assert wholeness.verify(reopened.folder)[1] == []
    assert not [p for p in Path(store.root, "staging").rglob("*") if p.is_file()]


# -- garbage ---------------------------------------------------------------------------------------------------------


def row(table: str, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(TABLES[table].schema.names), **values}


def rows_of(store: Store) -> dict[str, int]:
    return {found["table"]: found["rows"] for found in upkeep.tables(store) if found["rows"]}


@pytest.fixture
def littered(store: Store) -> Store:
    """Two concepts of 20 pairs: `used` has a vector and a cell, `unused` a vector that was removed."""
    model = identity()
    for name in ("used", "unused"):
        concept = made_up_concept(name)
        fill(store, model, concept, planted_directions())
        side = [
            r["prompt_id"]
            for r in store.rows("SELECT prompt_id FROM raw.pairs WHERE concept_id = ?", [concept.concept_id])
        ]
        ids = {"vector_id": name, "model_id": model.model_id, "concept_id": concept.concept_id}
        store.append("vectors", [{**vector().row(side), **ids}])
        store.append("qualities", [row("qualities", quality_id=f"of {name}", vector_id=name)])
        store.append(
            "labels", [row("labels", label_id=name, vector_id=name, kind="removed", label="", holds=name == "unused")]
        )
        store.append("projections", [row("projections", vector_id=name, generation_id=f"text of {name}")])
    cell = {"concept_id": made_up_concept("used").concept_id, "vector_ids": ["used"]}
    store.append("generations", [row("generations", generation_id="text of used", **cell)])
    return store


def test_gc_drops_what_it_lists_and_nothing_that_anything_refers_to(littered: Store) -> None:
    before, listed = rows_of(littered), {r["table"]: r["rows"] for r in garbage.unreferred(littered)}
    assert listed == {
        "vectors": 1,
        "qualities": 1,
        "projections": 1,
        "activations": 160,
        "pairs": 40,
        "concepts": 1,
        "prompts": 40,
    }
    assert rows_of(littered) == before
    dropped = garbage.collect(littered)
    assert {d.table: d.rows_dropped for d in dropped} == listed
    assert rows_of(littered) == {table: n - listed.get(table, 0) for table, n in before.items()}
    assert littered.rows("SELECT DISTINCT concept FROM activations") == [{"concept": "used"}]
    assert littered.rows("SELECT vector_id FROM vectors") == [{"vector_id": "used"}]
    assert garbage.unreferred(littered) == []
    assert garbage.collect(littered) == []
    assert wholeness.verify(littered.folder)[1] == []


def test_gc_keeps_a_removed_vector_that_a_cell_used(littered: Store) -> None:
    littered.append("scores", [row("scores", score_id="s", vector_ids=["unused"])])
    assert {r["table"] for r in garbage.unreferred(littered)} == {"projections"}


def test_gc_keeps_the_concepts_of_runs(littered: Store) -> None:
    ids = [made_up_concept("unused").concept_id]
    run = row("runs", run_id="r", concept_ids=ids, model_ids=[identity().model_id])
    littered.append("runs", [run])
    assert {r["table"] for r in garbage.unreferred(littered)} == {"vectors", "qualities", "projections"}


def test_gc_waits_for_a_run_that_goes_on(littered: Store) -> None:
    collecting = threading.Thread(target=garbage.collect, args=[Store(littered.root)])
    with Run(Spec(models=("tiny",), concepts=("used",)), littered):
        collecting.start()
        collecting.join(0.3)
        assert collecting.is_alive()
        assert garbage.unreferred(littered) != []
    collecting.join(20)
    assert garbage.unreferred(littered) == []


def test_what_gc_dropped_is_made_again(tiny: Model, store: Store) -> None:
    n = extracted(tiny, store)
    assert [r["rows"] for r in garbage.unreferred(store)] == [4 * n]
    garbage.collect(store)
    assert count(store) == (0, 0)
    assert extracted(tiny, store) == n


# -- schemas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False], ids=["while open", "before it is opened"])
def test_a_schema_that_is_gone_is_written_again(store: Store, seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    store.append("concepts", concept_rows("a"))
    if seen:
        assert store.rows("SELECT * FROM raw.scores") == []
    for table in ("scores", "concepts"):
        Path(store.root, table, "schema.parquet").unlink()
    opened = store if seen else Store(store.root)
    with caplog.at_level(logging.WARNING):
        assert opened.rows("SELECT * FROM raw.scores") == []
    assert "scores/schema.parquet was missing: written again" in caplog.text
    assert opened.rows("SELECT name FROM concepts") == [{"name": "a"}]
    assert wholeness.verify(store.folder) == (len(TABLES) + 1, [])


def test_verify_writes_a_damaged_or_missing_schema_again(store: Store) -> None:
    Path(store.root, "scores", "schema.parquet").unlink()
    Path(store.root, "runs", "schema.parquet").write_bytes(b"PAR1 no more")
    whole, faults = wholeness.verify(store.folder)
    assert ([fault.name for fault in faults], whole) == (["runs/schema.parquet"], len(TABLES))
    with duckdb.connect(Path(store.root, "catalog.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT * FROM raw.scores, raw.runs").fetchall() == []


def test_a_changed_table_is_what_the_catalog_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES["concepts"]
    wider = dataclasses.replace(table, schema=table.schema.append(pa.field("colour", pa.string())))
    monkeypatch.setitem(TABLES, "concepts", wider)
    assert Store(store.root).rows("SELECT colour FROM concepts") == []
    with duckdb.connect(Path(store.root, "catalog.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT colour FROM concepts").fetchall() == []
