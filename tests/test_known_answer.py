"""Propensity, KL and perplexity of the toy model are what pencil and paper give; its vector is found and *works*."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept, Item
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.prompts import open_prompt
from steering_core.scores.metrics import ScoredText, Setup, first_order, kl, perplexity, propensity
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy
from tests.capitals import CONCEPT, cells


@pytest.fixture(scope="module")
def setup(toy_model: Model) -> Setup:
    return Setup(toy_model, CONCEPT)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_propensity_is_the_closed_form(setup: Setup, layer: int) -> None:
    item = Item(prompt="7?", matching="YES", not_matching="no")
    grid = cells(setup.model, layer, (0.5, -2.0, 6.0))
    for found, cell in zip(propensity(setup, item, grid), grid, strict=True):
        expected = mean_log_probability("? YES", cell.alpha) - mean_log_probability("? no", cell.alpha)
        assert found == pytest.approx(expected, abs=1e-4)


def mean_log_probability(text: str, along_v: float) -> float:
    """Of the tokens after the first, each after its predecessor, steered at every one of them."""
    tokens = toy.byte_tokenizer().encode(text)
    values = [toy.log_softmax(toy.logits_after(a, along_v))[b] for a, b in itertools.pairwise(tokens)]
    return float(np.mean(values))


def test_the_first_order_is_the_slope_of_the_closed_form(setup: Setup) -> None:
    item = Item(prompt="? ", matching="A", not_matching="b")
    for layer in (0, 2):
        of_cells = first_order(setup, item, cells(setup.model, layer, (3.0, -0.5)))
        slope = 2 * toy.READ * np.sqrt(toy.WIDTH) / toy.ALONG_U  # of the difference of logits behind a space
        assert of_cells == pytest.approx([0.0, 3.0 * slope, -0.5 * slope], rel=1e-4)


def test_the_first_order_is_what_small_additions_do(tiny: Model, concept: Concept) -> None:
    drawn = np.random.default_rng(0).standard_normal((2, tiny.identity.width)).astype(np.float32)
    vectors = [
        Vector(f"r{layer}", tiny.identity.model_id, concept.concept_id, "random", layer, 10.0, direction=row)
        for layer, row in zip((1, 2), drawn, strict=True)
    ]
    of = (tiny.identity.model_id, concept.concept_id, "generation")
    both = [Cell.adding(*of, vectors, [a, a]) for a in (0.01, -0.01)]
    setup = Setup(tiny, concept)
    for item in (concept.items[0], Item(prompt="Which? (A) one (B) two", matching="(A)", not_matching="(B)")):
        there, back = propensity(setup, item, both)
        assert first_order(setup, item, both)[0] == pytest.approx((there - back) / 2, rel=0.02, abs=1e-6)


def test_a_one_token_answer_is_a_difference_of_logits(setup: Setup) -> None:
    grid = cells(setup.model, 1, (3.0,))
    space, capital, small = toy.byte_tokenizer().encode(" Ab")
    item = Item(prompt="? ", matching="A", not_matching="b")
    for found, cell in zip(propensity(setup, item, grid), grid, strict=True):
        logits = toy.logits_after(space, cell.alpha)
        assert found == pytest.approx(logits[capital] - logits[small], abs=1e-4)


def test_kl_is_the_closed_form(setup: Setup) -> None:
    grid = cells(setup.model, 1, (0.5, -2.0, 6.0))
    (last,) = toy.byte_tokenizer().encode("!")
    base = toy.log_softmax(toy.logits_after(last, 0.0))
    for found, cell in zip(kl(setup, "Fire!", grid), grid, strict=True):
        steered = toy.log_softmax(toy.logits_after(last, cell.alpha))
        assert found == pytest.approx(float((np.exp(base) * (base - steered)).sum()), abs=1e-5)


def test_perplexity_is_the_closed_form(setup: Setup) -> None:
    prompt = open_prompt(setup.model, CONCEPT, "4 + 5 =")
    tokens = tuple(toy.byte_tokenizer().encode("Nine"))
    (found,) = perplexity(setup, [ScoredText(prompt, tokens, "Nine", "length")])
    path = (prompt.tokens[-1], *tokens)
    scores = [toy.log_softmax(toy.logits_after(a, 0.0))[b] for a, b in itertools.pairwise(path)]
    assert found == pytest.approx(np.exp(-np.mean(scores)), rel=1e-4)


def test_the_planted_direction_is_found_and_works(toy_folder: Path, tmp_path: Path) -> None:
    path, store = tmp_path / "capitals.yaml", Store(tmp_path / "store")
    path.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy_folder),),
        concepts=(str(path),),
        generations={"layers": "all", "doses": (0.02, 0.05), "prompts": 4, "max_tokens": 8},
        scores={"bootstrap": 500, "max_perplexity_ratio": 3.0},
    )
    (row,) = run(spec, store)["recommendations"]
    assert row["verdict"] == "works", row["reason"]
    assert row["dose"] >= 0.05 - 1e-9  # the grid's strongest, or what bisection found beyond it
    assert row["perplexity_ratio"] <= 3.0
    assert row["p_value"] < 0.05
    assert row["effect_low"] > row["control_high"]
    (found,) = store.rows("SELECT vector FROM vectors WHERE vector_id = ?", row["vector_ids"][:1])
    direction = np.array(found["vector"])
    assert direction @ toy.axes()[1] / np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-4)
