"""What became of every cell, what changed since the sweep before, and `steer runs`."""

import datetime
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from steering_core.cli.runs import app
from steering_core.foundation.errors import QueryError
from steering_core.store import CELL, Store

EVENING = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.UTC)


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
    found = by_concept(nights, "SELECT concept, sweep, previous_sweep, change, regression FROM sweep_summary")
    assert {row["sweep"] for row in found.values()} == {"night2"}
    assert {row["previous_sweep"] for row in found.values()} == {"night1"}
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


def runs(store: Store, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--store", str(store.root), "--format", "json"])
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def test_steer_runs_lists_sweeps_and_the_cells_of_one(nights: Store) -> None:
    listed = runs(nights)
    assert [row["sweep"] for row in listed] == ["night2", "night1", "night0"]
    assert (listed[0]["failed"], listed[0]["regressions"], listed[0]["work"]) == (1, 2, 3)
    cells = runs(nights, "last")
    assert cells == runs(nights, "night2")
    assert [row["concept"] for row in cells] == ["fails", "worse", "better", "steady"]
    assert cells[0]["error"] == "DiskFull: no room"
    with pytest.raises(QueryError, match="did you mean 'night2'"):
        runs(nights, "nigt2")
