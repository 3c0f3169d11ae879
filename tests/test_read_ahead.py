"""Prompts of many subjects are read together before each subject is measured, and no value depends on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from steering_core.candidates.answers import NeutralAnswer
from steering_core.candidates.cell import Cell, prompted, unsteered
from steering_core.foundation.counting import Done
from steering_core.interventions.change import Phase
from steering_core.prompts import open_prompt
from steering_core.scores import metrics
from steering_core.scores.measure import measure_answers, measure_items, measure_neutral
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import cell_values
from steering_core.store import Store
from tests.capitals import vectors
from tests.toy import NEUTRAL

Measure = Callable[[Setup, Store, list[Cell]], Done]


def items(setup: Setup, store: Store, cells: list[Cell]) -> Done:
    return measure_items(setup, store, cells, setup.concept.items, "test", ["propensity"])


def neutral(setup: Setup, store: Store, cells: list[Cell]) -> Done:
    return measure_neutral(setup, store, cells, NEUTRAL, "test", ["kl"])


def answers(setup: Setup, store: Store, cells: list[Cell]) -> Done:
    prompts = [open_prompt(setup.model, setup.concept, text).tokens for text in NEUTRAL]
    some = [NeutralAnswer(f"a{i}", prompt, prompt[-1:] * (2 + i % 2), 0.7) for i, prompt in enumerate(prompts)]
    return measure_answers(setup, store, cells, some, "test", ["damage"])


def cells_of(setup: Setup, phase: Phase) -> list[Cell]:
    of = (setup.model.identity.model_id, setup.concept.concept_id, phase)
    steered = [Cell.adding(*of, [vector], [vector.alpha(0.03)]) for vector in vectors(setup)[::3]]
    return [
        unsteered(setup.model.identity, setup.concept),
        *steered,
        *prompted(setup.model.identity, setup.concept),
    ]


@pytest.mark.parametrize("measure", [items, neutral, answers])
@pytest.mark.parametrize("phase", ["generation", "all"])
def test_what_is_read_ahead_changes_no_value_and_saves_passes(
    setup: Setup, measure: Measure, phase: Phase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, found, passes = cells_of(setup, phase), [], []
    for ahead in (True, False):
        if not ahead:
            monkeypatch.setattr(metrics, "READ_FIRST", {})
        setup.model.remembered.clear()
        store = Store(tmp_path / str(ahead))
        did = measure(setup, store, cells)
        found.append(cell_values(store, cells, did.ids))
        passes.append(did.work.forward_passes)
    if phase == "generation":
        assert passes[0] < passes[1]
    else:  # what is read of a prompt is each cell's own
        assert passes[0] == passes[1]
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for score in one:
            np.testing.assert_allclose(list(one[score].values()), list(other[score].values()), atol=2e-5)
