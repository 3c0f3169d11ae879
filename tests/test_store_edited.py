"""Edited stores: folders that a copy lacks and edited values are told, and a run makes again what was set aside."""

import datetime
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steering_core.cli import store as store_verbs
from steering_core.cli import vectors as vector_verbs
from steering_core.cli.shared.named_vectors import identity_of
from steering_core.explorer.cell_texts import cell_texts
from steering_core.foundation.errors import StoreDamaged, VectorAmbiguous
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.steered import steered_cell
from steering_core.spec import Spec
from steering_core.store import Store, wholeness
from steering_core.store.references import lost
from steering_core.vectors import library
from steering_core.vectors.labels import label
from tests import quick
from tests.explorer import copied
from tests.stored import contents, identity
from tests.verbs import typed


@pytest.fixture
def edited(agree_run: Path, tmp_path: Path) -> Path:
    """A copy of a store with a run in it."""
    return Path(copied(agree_run, tmp_path).root)


def files(root: Path, table: str) -> list[Path]:
    return [path for path in (root / table).rglob("*.parquet") if path.name != "schema.parquet"]


def edit(root: Path, table: str, column: str, changed: Callable[[Any], Any]) -> None:
    """Write a column of a table anew, each value changed, as another program may."""
    for path in files(root, table):
        rows = pq.read_table(path, partitioning=None)
        values = pa.array([changed(value) for value in rows[column].to_pylist()], rows.schema.field(column).type)
        pq.write_table(rows.set_column(rows.column_names.index(column), rows.schema.field(column), values), path)


def candidate(store: Store) -> dict[str, Any]:
    """A row of a candidate that was scored."""
    return store.rows("SELECT * FROM raw.scores WHERE control IS NULL AND vector_id IS NOT NULL ORDER BY ALL")[0]


@pytest.mark.parametrize("moved", [True, False], ids=["elsewhere", "in its place"])
def test_a_folder_that_a_copy_lacks_is_told(edited: Path, moved: bool, caplog: pytest.LogCaptureFixture) -> None:
    Store(edited)  # notes its tables
    for table in ("models", "gates"):
        shutil.rmtree(edited / table)
    root = edited.rename(edited.with_name("elsewhere")) if moved else edited
    with caplog.at_level(logging.WARNING):
        store = Store.existing(root)
    assert f"{root} has no folder models and no folder gates any more: whatever rows it had are missing" in caplog.text
    with pytest.raises(StoreDamaged, match=r"\d+ of scores name models that are not there.* Copy the store again"):
        typed(store_verbs.app, "verify", "--store", str(root))
    assert {found.lacking for found in lost(store)} == {"models"}


def test_a_store_of_an_earlier_release_lacks_no_folder(edited: Path, caplog: pytest.LogCaptureFixture) -> None:
    (edited / "store.json").write_text('{"version": 1, "views": "of another release"}')
    shutil.rmtree(edited / "gates")
    with caplog.at_level(logging.WARNING):
        store = Store.existing(edited)
    assert "no folder" not in caplog.text
    assert lost(store) == []


def test_qualities_whose_vectors_are_gone_are_told(edited: Path) -> None:
    for path in files(edited, "vectors"):
        path.unlink()
    assert {(found.table, found.lacking) for found in lost(Store(edited))} == {("qualities", "vectors")}


@pytest.mark.parametrize("text", ["0.5*agree", "1*((", None])
def test_a_scored_intervention_that_was_edited_is_one_error(edited: Path, tiny: Model, text: str | None) -> None:
    found = candidate(Store(edited))
    edit(edited, "scores", "intervention", lambda _: text)
    with pytest.raises(StoreDamaged, match=r"raw\.scores\.intervention holds .* another's key: another program"):
        cell_texts(tiny, Store(edited), found["concept_id"], found["intervention_id"])


@pytest.mark.parametrize("text", ["0.5*agree", "1*((", None])
def test_a_recommended_intervention_that_was_edited_is_nobodys(edited: Path, tiny: Model, text: str | None) -> None:
    (recommended,) = Store(edited).rows("SELECT vector_id FROM raw.recommendations")
    edit(edited, "recommendations", "intervention", lambda _: text)
    store, written = Store(edited), parse(f"0.5*{recommended['vector_id']}")
    cell = steered_cell(tiny, store, written, lambda name: library.named(store, name, tiny.identity))
    assert cell.expression == f"0.5*{recommended['vector_id']}"


def test_a_time_after_which_none_comes_is_one_error(store: Store) -> None:
    label(store, ["a"], "name", "mine")
    assert store.time_after_all("labels", "labelled_at") > datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    root = Path(store.root)
    for path in files(root, "labels"):
        rows = pq.read_table(path)
        at = rows.column_names.index("labelled_at")
        endless = pa.array([2**63 - 1], pa.int64()).cast(rows.schema.field(at).type)
        pq.write_table(rows.set_column(at, rows.schema.field(at), endless), path)
    with pytest.raises(StoreDamaged, match=r"raw\.labels\.labelled_at holds .*, and no time is later"):
        label(Store(root), ["a"], "name", "again")


def test_a_name_of_several_models_is_ambiguous_and_lists_all_of_them(edited: Path) -> None:
    store = Store(edited)
    (here,) = store.rows("SELECT * FROM raw.models")
    store.append("models", [{**here, "model_id": f"{here['model_id']}-abc"}])
    assert identity_of(store, here["name"]) is not None  # the same weights, read in two ways
    store.append("models", [{**here, "model_id": identity().model_id}])
    with pytest.raises(VectorAmbiguous, match=rf"is 3 models in the store.*{here['model_id']}.*--model"):
        identity_of(store, here["name"])
    found = identity_of(store, here["model_id"])
    assert found is not None
    assert found.model_id == here["model_id"]
    at = ("--store", str(edited), "--format", "json")
    assert typed(vector_verbs.app, "list", "--model", here["name"], *at) == typed(vector_verbs.app, "list", *at)


@pytest.mark.parametrize("tables", [["measurements", "scores"], ["vectors", "activations", "generations", "prompts"]])
def test_a_run_makes_again_what_verify_set_aside(
    edited: Path, agree_run: Path, tiny_folder: Path, tables: list[str]
) -> None:
    for path in [path for table in tables for path in files(edited, table)]:
        path.write_bytes(path.read_bytes()[:-7])
    faults = wholeness.verify(Store(edited).folder)[1]
    assert {fault.name.partition("/")[0] for fault in faults} == set(tables)
    grid = {"layers": (1, 2), "doses": (-0.5, 0.5, 1.0), "prompts": 2, "max_tokens": 4}
    concept = str(agree_run.parent / "agree.yaml")
    run(Spec(models=(str(tiny_folder),), concepts=(concept,), generations=grid, **quick.SPEC), Store(edited))
    made, undisturbed = contents(edited), contents(agree_run)
    assert [table for table in undisturbed if made[table] != undisturbed[table]] == []
    assert lost(Store(edited)) == []
