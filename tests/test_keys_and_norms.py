"""A cell's key hangs on what was asked for, not on the last digits of a norm, which differ from machine to machine."""

from dataclasses import replace

import numpy as np
import pytest

from steering_core.candidates.combine import combined
from steering_core.candidates.grid import Strengths, candidates
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.vectors.vector import Vector

DOSES = (0.07, 0.15, 0.3, -0.4, 1 / 3)


def vectors(model: Model) -> list[Vector]:
    draw = np.random.default_rng(5)
    return [
        Vector(f"{i:020d}", model.identity.model_id, None, method, layer, 7.3 + i, direction=direction)
        for i, (method, layer) in enumerate([("mean_difference", 1), ("lda", 1), ("mean_difference", 2)])
        for direction in [draw.standard_normal(32).astype(np.float32)]
    ]


def elsewhere(vector: Vector) -> Vector:
    """The vector as another machine computes it: the last float32 digits of its direction and norm are others."""
    direction = np.nextafter(vector.direction, np.float32(np.inf))
    return replace(vector, direction=direction, residual_norm=vector.residual_norm * (1 + 1e-7))


def ids(model: Model, concept: Concept, own: list[Vector]) -> list[str]:
    cells = candidates(model.identity, concept, own, Strengths(doses=DOSES), "generation")
    cells += [cell.at(dose) for cell in (cells[0], cells[5]) for dose in (0.025, 0.0421875, 0.043359375, -0.1)]
    cells += combined(cells[:1] + cells[5:6] + cells[10:11], (0.2, 0.45))
    return [cell.intervention_id for cell in cells]


def test_the_last_digit_of_a_norm_changes_no_key(tiny: Model, concept: Concept) -> None:
    own = vectors(tiny)
    here, there = ids(tiny, concept, own), ids(tiny, concept, [elsewhere(vector) for vector in own])
    assert here == there
    assert len(set(here)) == len(here)


def test_a_dose_is_as_strong_as_its_alpha(tiny: Model, concept: Concept) -> None:
    (vector, *_) = vectors(tiny)
    (cell,) = candidates(tiny.identity, concept, [vector], Strengths(doses=(0.3,)), "generation")
    assert cell.alpha == pytest.approx(vector.alpha(0.3), rel=1e-12)
    assert cell.dose == pytest.approx(0.3, rel=1e-12)
    assert cell.expression == f"30%*{vector.vector_id} @generation"
    assert cell.at(0.1).expression == f"10%*{vector.vector_id} @generation"
