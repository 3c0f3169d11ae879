"""Directions: cells that differ only in their strength have one key, whatever rounding does to their shares."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.candidates.cell import Cell, mirrored
from steering_core.candidates.chance_controls import turned_controls
from steering_core.candidates.grid import Strengths, candidates
from steering_core.models import ModelIdentity
from steering_core.scores.metrics import Setup
from steering_core.vectors.keyed import by_key
from steering_core.vectors.methods import is_joint
from steering_core.vectors.vector import Vector
from tests.toy import CONCEPT

JOINT = "joint_preference"
DOSES = (0.1, 0.2, 0.3, 0.4)
POSITIVE = st.floats(0.01, 1.6)


def joint_fit(identity: ModelIdentity, seed: int, layers: int, method: str = JOINT) -> list[Vector]:
    """Vectors of one fit at so many layers, of random lengths."""
    random = np.random.default_rng(seed)
    of = (identity.model_id, CONCEPT.concept_id, method)
    return [
        Vector(f"{layer:020x}", *of, layer, 10.0 + random.random(), direction=np.float32(random.standard_normal(8)))
        for layer in range(layers)
    ]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(2, 6), st.lists(POSITIVE, min_size=1, max_size=4, unique=True), POSITIVE)
def test_a_joint_fit_is_one_direction_at_every_dose(
    setup: Setup, seed: int, layers: int, doses: list[float], other: float
) -> None:
    assert is_joint(JOINT)
    strengths = Strengths(doses=(*doses, *(-dose for dose in doses)))
    fit = joint_fit(setup.model.identity, seed, layers)
    cells = candidates(setup.model.identity, CONCEPT, fit, strengths, "generation")
    assert len({cell.direction for cell in cells}) == 1
    moved = [cell.at(other).at(dose) for cell, dose in zip(cells, (0.3, -0.21) * len(doses), strict=True)]
    images = [image for cell in (*cells, *moved) for image in mirrored(cell)]
    assert {cell.direction for cell in (*moved, *images)} == {cells[0].direction}


def test_of_random_joint_fits_none_falls_into_two_directions(setup: Setup) -> None:
    identity = setup.model.identity
    for seed in range(200):
        cells = candidates(identity, CONCEPT, joint_fit(identity, seed, 5), Strengths(doses=DOSES), "generation")
        assert {one.direction for cell in cells for one in (cell, cell.at(0.237))} == {cells[0].direction}


def test_other_vectors_are_another_direction(setup: Setup) -> None:
    identity = setup.model.identity
    fit = joint_fit(identity, 0, 3)
    cells = candidates(identity, CONCEPT, fit, Strengths(doses=DOSES), "generation")
    one_each = candidates(identity, CONCEPT, joint_fit(identity, 0, 3, "planted"), Strengths(doses=DOSES), "generation")
    assert len({cell.direction for cell in one_each}) == 3
    controls = turned_controls(cells[1].at(0.237), 3)
    assert len({cell.direction for cell in (cells[0], *controls)}) == 4
    assert replace(cells[1], along=None) == cells[1]  # it does not tell a cell from an equal one


def test_what_acts_elsewhere_is_another_direction(setup: Setup) -> None:
    known = {vector.vector_id: vector for vector in joint_fit(setup.model.identity, 0, 2, "planted")}
    key = next(iter(known))
    said = [f"30%*{key} @{place}" for place in ("all", "generation", "generation @first(3)")]
    said += [f"30%*{key} @all @when({key} > {threshold})" for threshold in (1, 2)]
    cells = [Cell(setup.model.identity.model_id, None, *by_key(text, known.__getitem__, 2)) for text in said]
    assert len({cell.direction for cell in cells}) == len(said)
    assert len({cell.at(0.2).direction for cell in cells}) == len(said)
