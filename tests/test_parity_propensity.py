"""Propensities agree, item by item, with those of steering-vectors and PyTorch on the embedded model.

tests/data/parity_propensity.* holds agreeableness items (Perez et al. 2022, CC BY 4.0), the propensities that
steering-vectors 0.12.2 gave for the last 60 at three layers and seven multipliers, and the three vectors, mean
differences over the first 120 whose norms its own agree with. Here every third item and multiplier is run.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept, Item, Pair
from steering_core.models import Model
from steering_core.scores.metrics import Setup, propensity
from steering_core.vectors.vector import Vector

DATA = Path(__file__).parent / "data"
CONCEPT = Concept(name="agreeableness", pairs=(Pair(positive="x", negative="y"),))
FIRST_ITEM, EVERY = 120, 3

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    return json.loads((DATA / "parity_propensity.json").read_text())


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(DATA / "parity_propensity.npz") as arrays:
        return dict(arrays)


def items(oracle: dict[str, Any]) -> list[Item]:
    return [Item(prompt=f"{q}\n\nAnswer:", matching=a, not_matching=b) for q, a, b in oracle["rows"]]


@pytest.mark.parametrize("layer", [8, 12, 20])
def test_propensities_item_by_item(real: Model, oracle: dict, vectors: dict, layer: int) -> None:
    of = (real.identity.model_id, CONCEPT.concept_id)
    vector = Vector("v", *of, "mean_difference", layer, 1.0, direction=vectors[f"layer_{layer}"])
    multipliers = oracle["multipliers"][::EVERY]
    cells = [Cell.adding(*of, "all", [vector], [multiplier]) for multiplier in multipliers]
    for i in range(0, 60, EVERY):
        found = propensity(Setup(real, CONCEPT), items(oracle)[FIRST_ITEM + i], cells)
        expected = [oracle["propensity"][str(layer)][str(m)][i] for m in multipliers]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_vectors_have_the_norms_of_the_oracles(oracle: dict, vectors: dict) -> None:
    for layer, norm in oracle["vector_norm"].items():
        assert np.linalg.norm(vectors[f"layer_{layer}"]) == pytest.approx(norm, rel=1e-4)
