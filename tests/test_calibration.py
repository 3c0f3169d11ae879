"""Calibration: bisection finds a known bound; on the toy model the largest alpha is the closed form's."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from steering_core.candidates.cell import Cell
from steering_core.cli.calibrate import app as calibrate
from steering_core.cli.sweep_layers import app as sweep_layers
from steering_core.evaluation.calibration import Calibration, bisected, judged, lowered
from steering_core.evaluation.recommendations import Bounds
from steering_core.foundation.errors import ConceptError
from steering_core.scores.metrics import Bench
from steering_core.spec import GenerationsSpec
from steering_core.statistics.intervals import mean_interval, student_interval
from steering_core.store import Store
from steering_core.store.store import IN_USE
from steering_core.vectors.vector import Vector
from tests import toy
from tests.toy import CONCEPT, NEUTRAL

BOUND = float(np.log(1.5))


def calibration(bench: Bench, store: Store) -> Calibration:
    _, v = toy.axes()
    of = (bench.model.identity.model_id, CONCEPT.concept_id, "planted")
    vectors = [Vector(f"v{k}", *of, 1, 10.0, direction=np.float32(k * v)) for k in (1, 4)]
    directions = [Cell.adding(*of[:2], "generation", [vector], [1.0]) for vector in vectors]
    return Calibration(bench, store, directions, GenerationsSpec(max_tokens=4))


def kl_at(along_v: float) -> float:
    (last,) = toy.byte_tokenizer().encode("!")
    base = toy.log_softmax(toy.logits_after(last, 0.0))
    return float((np.exp(base) * (base - toy.log_softmax(toy.logits_after(last, along_v)))).sum())


def test_bisection_finds_each_vectors_own_bound() -> None:
    bounds = np.array([0.37, 1.9, 0.01, 1e9])
    found = bisected(lambda doses: np.array(doses) / bounds, 4, first=0.1, doublings=6, steps=12)
    assert found[:3] == pytest.approx(bounds[:3], rel=0.05)
    assert found[3] == pytest.approx(3.2)
    assert (np.array(found) <= bounds).all()


def test_damage_that_is_not_a_number_is_too_much() -> None:
    found = bisected(lambda doses: np.where(np.array(doses) > 0.5, np.nan, 0.0), 1, 0.1, 6, 10)
    assert found == pytest.approx([0.5], abs=0.01)


def test_the_largest_alpha_is_the_closed_forms(bench: Bench, store: Store) -> None:
    found = calibration(bench, store).within(Bounds(1.5, 0.05), NEUTRAL, texts=False)
    for one, length in zip(found, (1, 4), strict=True):
        alpha = one.row()["alpha"]
        assert kl_at(alpha * length) == pytest.approx(one.kl, abs=1e-5)
        assert one.kl <= 0.05 < kl_at(alpha * length * 1.1)
    assert found[0].dose == pytest.approx(found[1].dose, rel=0.05)  # a dose does not depend on a vector's length
    assert found[0].row()["alpha"] == pytest.approx(4 * found[1].row()["alpha"], rel=0.05)


def test_texts_lower_what_kl_alone_allows(bench: Bench, store: Store) -> None:
    by_kl = calibration(bench, store).within(Bounds(1.05, 1.0), NEUTRAL, texts=False)
    by_both = calibration(bench, store).within(Bounds(1.05, 1.0), NEUTRAL)
    for a, b in zip(by_both, by_kl, strict=True):
        assert a.dose <= b.dose
        assert a.perplexity_ratio is not None
        assert a.perplexity_ratio <= 1.05


SPREAD, SHARED = 0.5, 0.15  # of log perplexity ratios on SmolLM2, text by text and prompt by prompt (docs/log.md)


def chosen_beyond(upper: Callable[[np.ndarray], float], prompts: int, samples: int) -> tuple[float, float]:
    """How often the strongest of three directions, each lowered to a perplexity ratio of 1.5, is beyond it.

    In truth, and by the mean of as many texts of fresh prompts; over 400 seeds.
    """
    random, shape = np.random.default_rng(0), (400, 3)
    growth, effect = random.uniform(2, 8, shape), random.uniform(3, 5, shape)  # log ratio by dose squared, by dose

    def ratios(doses: Sequence[float], of_prompts: np.ndarray) -> np.ndarray:
        of_texts = random.normal(0.0, SPREAD, (*shape, prompts, samples)).mean(axis=3)
        return (growth * np.reshape(doses, shape) ** 2)[..., None] + of_prompts + of_texts

    def damage(doses: Sequence[float]) -> np.ndarray:
        return np.array([upper(one) for one in ratios(doses, chosen_on).reshape(-1, prompts)]) / BOUND

    chosen_on, fresh = random.normal(0.0, SHARED, (2, len(growth), 1, prompts))
    doses = np.reshape(lowered(damage, [0.6] * growth.size, 3), shape)
    best = (np.arange(len(doses)), (effect * doses).argmax(axis=1))
    return float((growth * doses**2 > BOUND)[best].mean()), float(
        (ratios(doses, fresh).mean(axis=2) > BOUND)[best].mean()
    )


def test_a_dose_at_the_bound_keeps_it_on_fresh_prompts() -> None:
    """Where the rule of before, a bootstrap's end over six texts, lets one choice in six cross it."""
    now = chosen_beyond(lambda one: student_interval(one)[2], prompts=8, samples=2)
    before = chosen_beyond(lambda one: mean_interval(one, 200, seed=0)[2], prompts=6, samples=1)
    assert (np.array(now) < (0.02, 0.06)).all()
    assert (np.array(before) > (0.02, 0.12)).all()


def test_a_rule_is_good_within_half_of_the_largest() -> None:
    assert [judged(rule, 10.0) for rule in (11.0, 10.0, 5.0, 4.9)] == ["too strong", "good", "good", "too weak"]


def test_the_commands_print_a_row_a_layer(bench: Bench, tmp_path: Path) -> None:
    concept, spec = tmp_path / "capitals.yaml", tmp_path / "spec.yaml"
    concept.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec.write_text(yaml.safe_dump({"models": [bench.model.name], "concepts": [str(concept)],
                                    "generations": {"layers": [1], "prompts": 1, "max_tokens": 2}}))  # fmt: skip
    to = [str(spec), "--store", str(tmp_path / "store"), "--format", "json"]
    (row,) = json.loads(CliRunner().invoke(calibrate, [*to, "--no-texts"], catch_exceptions=False).stdout)
    assert row["alpha"] == pytest.approx(row["dose"] * row["residual_norm"] / row["norm"])
    assert row["rule_300"] == pytest.approx(300 / row["norm"])
    rows = json.loads(CliRunner().invoke(sweep_layers, [*to, "--kl", "0.05"], catch_exceptions=False).stdout)
    assert sorted(row["layer"] for row in rows) == [0, 1, 2]
    assert all(row["effect_low"] > 0 and row["kl"] <= 0.05 for row in rows)


def test_a_concept_that_is_missing_does_not_keep_the_others_rows_from_being_printed(
    bench: Bench, tmp_path: Path
) -> None:
    concept, spec = tmp_path / "capitals.yaml", tmp_path / "spec.yaml"
    concept.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec.write_text(
        yaml.safe_dump({"models": [bench.model.name], "concepts": [str(concept), str(tmp_path / "nowhere.yaml")]})
    )
    to = [str(spec), "--no-texts", "--store", str(tmp_path / "store"), "--format", "json"]
    done = CliRunner().invoke(calibrate, to)
    assert {row["concept"] for row in json.loads(done.stdout)} == {"capitals"}
    assert isinstance(done.exception, ConceptError)
    assert "nowhere" in str(done.exception)
    store = Store(tmp_path / "store")
    assert store.rows("SELECT * FROM raw.outcomes") == []
    with store.folder.try_lock(IN_USE) as alone:
        assert alone
