"""The logit lens of a vector against answers: the closed form on the toy, chance among random directions, the store."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.predictor import best_by, correlations
from steering_core.concepts import Concept, Item
from steering_core.models import Model, open_model
from steering_core.vectors.lens import YARDSTICKS, assess_lens, lens_scores
from tests import toy
from tests.capitals import CAPITALS, ran

ITEMS = (Item(prompt="1?", matching="YES", not_matching="no"), Item(prompt="2?", matching="Aa", not_matching="11"))


def test_it_is_the_closed_form_in_units_of_random_directions(toy_model: Model) -> None:
    """On the toy a token's logit under the lens is READ s cos(v, direction) sqrt(D): the items read 2 and 0 of it."""
    u, v = toy.axes()
    drawn = np.random.default_rng(0).standard_normal((YARDSTICKS, toy.WIDTH))
    cosines = drawn @ v / np.linalg.norm(drawn, axis=1)
    per_cosine = toy.READ * toy.WIDTH**0.5
    spread = np.sqrt(np.mean((per_cosine * cosines * (2 + 0) / 2) ** 2))
    directions = np.stack([v, -v, 7 * v, u, u + v])
    expected = per_cosine * np.array([1, -1, 1, 0, 0.5**0.5])[:, None] * np.array([2.0, 0.0]) / spread
    found = lens_scores(toy_model, toy.CONCEPT, directions.astype(np.float32), ITEMS)
    assert found == pytest.approx(expected, abs=1e-3)
    assert 4 < found[0].mean() < 8  # the square root of the width, about: chance lies at 1


def test_what_two_answers_have_in_common_says_nothing(toy_model: Model) -> None:
    _, v = toy.axes()
    of = [
        lens_scores(toy_model, toy.CONCEPT, v[None].astype(np.float32), [Item(prompt="1?", matching=a, not_matching=b)])
        for a, b in (("YES", "no"), ("abcYES", "abcno"))
    ]
    assert of[0] == pytest.approx(of[1])
    same = [Item(prompt="1?", matching="A", not_matching="B")]
    assert np.isnan(lens_scores(toy_model, toy.CONCEPT, v[None].astype(np.float32), same)).all()


def test_random_directions_score_as_a_normal_variable_does(tiny: Model, concept: Concept) -> None:
    items = [Item(prompt=f"{i}?", matching=f"Yes {i}", not_matching=f"never {9 - i}") for i in range(8)]
    rows = np.random.default_rng(1).standard_normal((400, tiny.identity.width)).astype(np.float32)
    scores = lens_scores(tiny, concept, rows, items).mean(axis=1)
    assert abs(scores.mean()) < 0.2
    assert 0.8 < scores.std() < 1.25


def test_a_run_stores_it_once_for_each_split_and_vector(tmp_path: Path) -> None:
    store = ran(tmp_path)
    rows = store.rows("SELECT control, logit_lens FROM vector_quality ORDER BY control NULLS FIRST")
    assert rows[0]["control"] is None
    assert rows[0]["logit_lens"] == max(abs(row["logit_lens"]) for row in rows)
    assert rows[0]["logit_lens"] > 4
    stored = store.rows(
        "SELECT split, n, draws, count(*) AS vectors FROM qualities WHERE metric = 'logit_lens' GROUP BY ALL"
    )
    assert sorted((r["split"], r["n"]) for r in stored) == [("test", 10), ("validation", 10)]
    ids = [row["vector_id"] for row in store.rows("SELECT vector_id FROM vectors WHERE vector_id IS NOT NULL")]
    with open_model(str(tmp_path / "toy")) as model:
        derived = [
            r["vector_id"] for r in store.rows("SELECT DISTINCT vector_id FROM qualities WHERE metric = 'logit_lens'")
        ]
        again = assess_lens(store, model, CAPITALS, derived)
    assert set(derived) <= set(ids)
    assert (again.computed, again.reused) == (0, 2 * len(derived))


def test_the_benchmark_ranks_over_all_within_concepts_and_between_best_layers() -> None:
    rows = [
        {"concept": concept, "layer": layer, "logit_lens": sign * layer + 10 * i, "odd_effect": layer / 10 + i}
        for i, (concept, sign) in enumerate((("a", 1), ("b", -1), ("c", 1)))
        for layer in (1, 2, 3)
    ]
    found = correlations(rows, "logit_lens")
    assert (found["a"], found["b"], found["c"]) == (1.0, -1.0, 1.0)
    assert 0.5 < found["all"] < 1
    assert found["best layers"] == 1.0
    assert found["within"] == pytest.approx(1 / 3)
    assert best_by(rows, "logit_lens") == (2, pytest.approx((1 + 1.1 / 1.3 + 1) / 3))
