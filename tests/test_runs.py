"""How long a run lasts, what became of every cell, what changed since the sweep before, and `steer runs`."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steering_core.cli.runs import app
from steering_core.foundation.errors import QueryError, StoreError
from steering_core.pipeline.cells import each_cell
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import CELL, Store
from steering_core.store.store import IN_USE

EVENING = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.UTC)


SPEC = Spec(models=("m",), concepts=("c",))


def in_use(store: Store) -> bool:
    """Whether somebody keeps `steer store gc` waiting."""
    with store.folder.try_lock(IN_USE) as alone:
        return not alone


def test_a_run_keeps_gc_waiting_inside_its_with_alone(store: Store) -> None:
    run = Run(SPEC, store)
    assert not in_use(store)
    with run:
        run.finish()
        assert in_use(store)
    assert not in_use(store)
    assert store.rows("SELECT run_id FROM runs") == [{"run_id": run.run_id}]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(1)])
def test_an_error_that_leaves_a_run_frees_the_store_and_leaves_nothing_half_done(
    store: Store, error: BaseException
) -> None:
    with pytest.raises(type(error)), Run(SPEC, store):
        raise error
    assert not in_use(store)
    assert store.rows("SELECT run_id FROM runs") == []
    with Run(SPEC, store) as again:
        again.finish()
    assert store.rows("SELECT run_id FROM runs") == [{"run_id": again.run_id}]


def test_a_run_that_cannot_begin_frees_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(table: str, column: str) -> datetime.datetime:
        raise StoreError("damaged")

    monkeypatch.setattr(store, "time_after_all", damaged)
    with pytest.raises(StoreError, match="damaged"):
        Run(SPEC, store).__enter__()
    assert not in_use(store)


def recommendation(name: str, verdict: str, effect: float) -> dict[str, Any]:
    cell = dict.fromkeys(CELL) | {"model_id": "m", "concept_id": "c", "intervention_id": name, "dose": 0.3, "layer": 2}
    row = {"recommendation_id": name, **cell, "verdict": verdict, "reason": "", "n": 20, "spec_key": "s"}
    row |= {"effect": effect, "effect_low": effect - 0.1, "effect_high": effect + 0.1, "perplexity_ratio": 1.1}
    return row


def full(store: Store, table: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with every column that its table has."""
    names = store.query(f"SELECT * FROM raw.{table} LIMIT 0").column_names
    return dict.fromkeys(names) | row


@pytest.fixture
def nights(store: Store) -> Store:
    """Three nights of four concepts: one steady, one better, one worse, one that fails on the third night."""
    story = {
        "steady": [("works", 0.5), ("works", 0.5), ("works", 0.5)],
        "better": [("weak", 0.2), ("works", 0.6), ("works", 0.6)],
        "worse": [("works", 0.9), ("works", 0.9), ("works", 0.4)],
        "fails": [("works", 0.3), ("works", 0.3), None],
    }
    for night in range(3):
        for minute, (concept, verdicts) in enumerate(story.items()):
            found = verdicts[night]
            row: dict[str, Any] = {"run_id": f"run{night}", "sweep": f"night{night}", "model": "m", "concept": concept}
            row |= {"outcome": "failed", "error": "DiskFull: no room", "computed": 0, "reused": 3, "seconds": 1.0}
            row["finished_at"] = EVENING + datetime.timedelta(days=night, minutes=minute)
            if found:
                name = f"{concept}{night}"
                store.append("recommendations", [full(store, "recommendations", recommendation(name, *found))])
                row |= {"recommendation_id": name, "outcome": "completed", "error": None}
            store.append("outcomes", [full(store, "outcomes", row)])
    return store


def by_concept(store: Store, sql: str) -> dict[str, Any]:
    return {row.pop("concept"): row for row in store.rows(sql)}


def test_the_summary_is_the_newest_sweep_beside_the_one_before(nights: Store) -> None:
    columns = "concept, sweep, previous_sweep, previous_sweep_at, change, regression"
    found = by_concept(nights, f"SELECT {columns} FROM sweep_summary")
    assert {row["sweep"] for row in found.values()} == {"night2"}
    assert {row["previous_sweep"] for row in found.values()} == {"night1"}
    assert {row["previous_sweep_at"] for row in found.values()} == {EVENING + datetime.timedelta(days=1)}
    assert {concept for concept, row in found.items() if row["regression"]} == {"worse", "fails"}
    assert found["worse"]["change"] == pytest.approx(-0.5)
    assert found["steady"]["change"] == 0


def test_history_keeps_every_night_and_the_first_has_nothing_before_it(nights: Store) -> None:
    rows = nights.rows("SELECT sweep, concept, change, regression FROM sweep_history")
    assert len(rows) == 12
    first = [row for row in rows if row["sweep"] == "night0"]
    assert all(row["change"] is None and row["regression"] is False for row in first)
    assert [row["regression"] for row in rows if row["sweep"] == "night1"] == [False] * 4


def test_a_cell_that_was_tried_again_counts_once_with_its_last_outcome(nights: Store) -> None:
    again = {"run_id": "later", "sweep": "night2", "model": "m", "concept": "fails", "outcome": "completed"}
    again |= {"recommendation_id": "fails1", "finished_at": EVENING + datetime.timedelta(days=2, hours=3)}
    nights.append("outcomes", [full(nights, "outcomes", again)])
    found = by_concept(nights, "SELECT concept, outcome, regression FROM sweep_summary")
    assert found["fails"] == {"outcome": "completed", "regression": False}
    assert len(found) == 4


def finished(store: Store, run_id: str, spec: str) -> None:
    """Have the store hold a finished run of a spec of that name."""
    row = {"run_id": run_id, "name": spec, "spec_key": spec, "started_at": EVENING, "outcome": "completed"}
    row |= {"spec": "{}", "stages": "{}", "versions": "{}", "seconds": 1.0}
    store.append("runs", [full(store, "runs", row)])


def test_the_time_before_is_the_last_of_the_same_spec_that_completed(nights: Store) -> None:
    """A smoke test by day is no yardstick for the night, and a night that failed hides no drop behind it."""
    for night in range(3):
        finished(nights, f"run{night}", "nightly")
    finished(nights, "by day", "smoke")
    finished(nights, "run3", "nightly")
    for i, (run, sweep, effect) in enumerate([("by day", "smoke1", 9.0), ("run3", "night3", 0.1)]):
        name = f"fails, {sweep}"
        nights.append("recommendations", [full(nights, "recommendations", recommendation(name, "works", effect))])
        row = {"run_id": run, "sweep": sweep, "model": "m", "concept": "fails", "outcome": "completed"}
        row |= {"recommendation_id": name, "finished_at": EVENING + datetime.timedelta(days=3 + i)}
        nights.append("outcomes", [full(nights, "outcomes", row)])
    columns = "previous_sweep, previous_outcome, previous_effect, regression"
    found = nights.rows(f"SELECT sweep, {columns} FROM sweep_history WHERE concept = 'fails'")
    told = {row.pop("sweep"): tuple(row.values()) for row in found}
    assert told["smoke1"] == (None, None, None, False)
    assert told["night2"] == ("night1", "completed", 0.3, True)
    assert told["night3"] == ("night1", "failed", 0.3, True)  # its interval ends at 0.2


def runs(store: Store, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--store", str(store.root), "--format", "json"])
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def test_steer_runs_lists_sweeps_and_the_cells_of_one(nights: Store) -> None:
    listed = runs(nights)
    assert [row["sweep"] for row in listed] == ["night2", "night1", "night0"]
    assert (listed[0]["failed"], listed[0]["regressions"], listed[0]["works"]) == (1, 2, 3)
    cells = runs(nights, "last")
    assert cells == runs(nights, "night2")
    assert [row["concept"] for row in cells] == ["fails", "worse", "better", "steady"]
    assert cells[0]["error"] == "DiskFull: no room"
    with pytest.raises(QueryError, match="did you mean 'night2'"):
        runs(nights, "nigt2")


@pytest.mark.parametrize("gone", [True, False])
def test_a_concept_that_can_no_longer_be_read_is_a_regression_under_its_own_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    file = tmp_path / "concepts" / "mood.yaml"
    file.parent.mkdir()
    file.write_text("name: mood\npairs: []\n")
    if gone:
        file.unlink()
    monkeypatch.setenv("STEERFLOW_DATA", str(tmp_path))
    yesterday = {**dict.fromkeys(store.query("SELECT * FROM raw.outcomes LIMIT 0").column_names), "run_id": "1"}
    yesterday |= {"sweep": "1", "model": "m", "concept": "mood", "outcome": "completed", "finished_at": EVENING}
    store.append("outcomes", [yesterday])
    with Run(Spec(models=("m",), concepts=("mood",)), store) as run:
        each_cell(run, lambda *_: None)
    (row,) = store.rows("SELECT concept, outcome, regression FROM sweep_summary")
    assert row == {"concept": "mood", "outcome": "failed", "regression": True}
