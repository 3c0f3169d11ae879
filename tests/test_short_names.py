"""What a notebook prints is a line: concepts, specs, interventions, and what runs, monitors and bakes give."""

import json
from pathlib import Path

import numpy as np
import pytest

import steering_core as steer
from steering_core.api.data import Report
from steering_core.baking.card import Baked
from steering_core.baking.proof import Difference
from steering_core.concepts import Concept
from steering_core.interventions.where import Schedule
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick

LONGEST = 300


@pytest.fixture
def mine(tiny: Model) -> steer.Vector:
    return steer.Vector.from_numpy(tiny, np.ones(32), layer=1, name="mine", residual_norm=10.0)


def test_concepts_and_specs_print_in_a_line(concept: Concept) -> None:
    assert str(concept) == repr(concept) == "<Concept loud: 10 pairs, 8 items, 3 prompts>"
    spec = load_spec("quickstart")
    assert str(spec) == repr(spec) == "<Spec quickstart: 1 model, 1 concept, methods mean_difference>"


def test_interventions_say_what_is_done_where(tiny: Model, mine: steer.Vector) -> None:
    (change,) = mine.intervention(2.5, "generation").changes
    assert repr(change) == "<Change add at layer 1 with 2.5 @generation, width 32>"
    assert repr(steer.Intervention()) == "<Intervention: nothing is changed>"
    where = steer.Where("all", (0, -1), schedule=Schedule("decay", 0.5))
    placed = steer.Change(2, mine.direction, 1.0, "clamp", where, steer.Condition(1, mine.direction, 0.5))
    said = "clamp at layer 2 with 1 @all, positions 0, -1, schedule decay 0.5, on a condition"
    assert repr(steer.Intervention((change, placed))) == f"<Intervention: add at layer 1 with 2.5 @generation; {said}>"
    assert repr(steer.Intervention((change,) * 9)).count("add at") == 6
    assert "in 'tea'" in str(steer.Change(2, mine.direction, where=steer.Where(span="tea")))


def test_a_steered_model_says_by_what(tiny: Model, mine: steer.Vector) -> None:
    assert repr(steer.Steered(tiny, mine, alpha=2)).endswith(": mine at layer 1 with alpha 2 @generation>")
    with pytest.warns(steer.SteeringWarning, match="no strength was given"):
        assert "with alpha 1 @" in repr(steer.Steered(tiny, mine))


def test_what_monitor_and_bake_give_prints_in_a_line(tiny: Model, mine: steer.Vector) -> None:
    found = steer.monitor(tiny, "Hello", [mine])
    assert repr(found) == f"<Monitored: 5 tokens, 1 turn, read along {mine.vector_id}>"
    baked = Baked(
        Path("out"),
        "smollm2-135m",
        "model",
        "biases",
        False,
        Difference(0.0, 0.0, 1.0, 1.0, 1.0),
        None,
        {"much": "x" * 999},
    )
    assert repr(baked) == "<Baked model out: of smollm2-135m, biases>"


def test_a_run_s_recommendations_print_in_a_line_and_stay_rows(
    tmp_path: Path, tiny_folder: Path, concept: Concept
) -> None:
    spec = load_spec(str(quick.spec_file(tmp_path, tiny_folder, concept)))
    plain = run(spec, Store(tmp_path / "store"))
    (row,) = Report(plain)["recommendations"]
    assert repr(row).startswith(f"<Recommended on {row['model']}: loud")
    assert len(repr(row)) < LONGEST + len(row["model"])
    assert row == plain["recommendations"][0]
    assert json.dumps(row, default=str) == json.dumps(plain["recommendations"][0], default=str)
