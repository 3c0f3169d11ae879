"""Calibration: the dose of a damage does that damage, and the largest alpha keeps within the bounds."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from steering_core.candidates.answers import neutral_answers
from steering_core.candidates.cell import Cell
from steering_core.cli.calibrate import app as calibrate
from steering_core.cli.sweep_layers import app as sweep_layers
from steering_core.concepts import Concept
from steering_core.evaluation.bounds import LEAST_SLOPE, Bounds, allowed_damage
from steering_core.evaluation.calibration import Calibration, judged
from steering_core.evaluation.damage import Damage
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import ConceptError, ModelError, SpecError
from steering_core.interventions.expression import Amount
from steering_core.models import Model
from steering_core.scores.metrics import Setup
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.store.store import IN_USE
from steering_core.vectors.vector import Vector
from tests import quick, toy
from tests.toy import CONCEPT, NEUTRAL


def calibration(setup: Setup, store: Store, lengths: Sequence[float] = (1, 4)) -> Calibration:
    """Vectors along v, of which only the lengths differ."""
    _, v = toy.axes()
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "planted")
    vectors = [Vector(f"v{k}", *of, 1, 10.0, direction=np.float32(-k * v)) for k in lengths]
    directions = [Cell.adding_amounts(*of[:2], "generation", [vector], [Amount.of_dose(0.05)]) for vector in vectors]
    spec = GenerationsSpec(max_tokens=4)
    answers = neutral_answers(setup.model, store, CONCEPT, NEUTRAL, spec, Work())
    return Calibration(Damage(setup, store, answers), directions, NEUTRAL, spec)


def kl_at(along_v: float) -> float:
    (last,) = toy.byte_tokenizer().encode("!")
    base = toy.log_softmax(toy.logits_after(last, 0.0))
    return float((np.exp(base) * (base - toy.log_softmax(toy.logits_after(last, along_v)))).sum())


def test_the_largest_alpha_is_within_the_bounds_and_does_not_depend_on_a_vectors_length(
    setup: Setup, store: Store
) -> None:
    found = calibration(setup, store).within(Bounds(1.5, 0.05), texts=False)
    for one, length in zip(found, (1, 4), strict=True):
        alpha = one.row()["alpha"]
        assert kl_at(-alpha * length) == pytest.approx(one.kl, abs=1e-5)
        assert one.kl <= 0.05
    assert found[0].dose == pytest.approx(found[1].dose, rel=0.01)  # a dose does not depend on a vector's length
    assert found[0].row()["alpha"] == pytest.approx(4 * found[1].row()["alpha"], rel=0.01)


def test_the_dose_of_a_damage_does_that_damage(tiny: Model, concept: Concept, store: Store) -> None:
    setup, of = Setup(tiny, concept), (tiny.identity.model_id, concept.concept_id)
    answers = neutral_answers(tiny, store, concept, ("One?", "Two?", "Three?"), GenerationsSpec(max_tokens=6), Work())
    damage, random = Damage(setup, store, answers), np.random.default_rng(0)
    vectors = [
        Vector(f"w{k}", *of, "planted", 1 + k, 5.0, direction=random.standard_normal(32).astype(np.float32))
        for k in range(2)
    ]
    directions = [Cell.adding_amounts(*of, "generation", [vector], [Amount.of_dose(0.3)]) for vector in vectors]
    calibrating = Calibration(damage, directions, ("One?",), GenerationsSpec(max_tokens=6))
    found = calibrating.at_damage(0.02)
    assert damage.of([one.cell for one in found]).mean(axis=1) == pytest.approx([0.02, 0.02], rel=0.2)
    assert [one.damage for one in found] == pytest.approx([0.02, 0.02], rel=0.02)


def test_texts_say_which_damage_a_direction_may_do(setup: Setup, store: Store) -> None:
    by_damage = calibration(setup, store).within(Bounds(1.05, 1.0), texts=False)
    by_both = calibration(setup, store).within(Bounds(1.05, 1.0))
    for a, b in zip(by_both, by_damage, strict=True):
        assert a.perplexity_ratio is not None
        assert b.perplexity_ratio is None
        assert a.dose > 0


def test_texts_plainer_than_the_unsteered_ones_do_not_lower_a_dose(
    setup: Setup, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = calibration(setup, store)
    (by_damage, *_) = measured.within(Bounds(1.05, 9.0), texts=False)
    monkeypatch.setattr(measured, "_log_ratios", lambda cells: [np.full(64, -0.5) for _ in cells])
    (plain, *_) = measured.within(Bounds(1.05, 9.0))
    assert by_damage.dose < plain.dose
    assert plain.damage == pytest.approx(allowed_damage(1.05, LEAST_SLOPE), rel=0.02)


def test_a_dose_is_lowered_until_its_kl_is_within_however_slowly_that_falls(
    setup: Setup, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering_core.evaluation.damage._kl", lambda _, cells, __: [abs(c.dose) for c in cells])
    found = calibration(setup, store).within(Bounds(1.5, 1e-5), texts=False)
    assert all(1e-6 < one.kl <= 1e-5 for one in found)


def test_a_direction_that_no_dose_brings_within_the_bound_of_kl_is_named(
    setup: Setup, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("steering_core.evaluation.damage._kl", lambda _, cells, __: [0.01, 0.3][: len(cells)])
    calibration(setup, store).within(Bounds(1.5, 0.2), texts=False)
    (said,) = caplog.messages
    assert said.startswith("planted, layer 1: no dose was found whose KL is within 0.2 nats: it is 0.3 at dose ")


def test_a_rule_is_good_within_half_of_the_largest() -> None:
    assert [judged(rule, 10.0) for rule in (11.0, 10.0, 5.0, 4.9)] == ["too strong", "good", "good", "too weak"]


def test_the_commands_print_a_row_a_layer(setup: Setup, tmp_path: Path) -> None:
    concept, spec = tmp_path / "capitals.yaml", tmp_path / "spec.yaml"
    concept.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec.write_text(yaml.safe_dump({"models": [setup.model.name], "concepts": [str(concept)],
                                    "generations": {"layers": [1], "prompts": 1, "max_tokens": 2},
                                    "scores": {"neutral": 4, "answers": 6, "draws": 2}}))  # fmt: skip
    to = [str(spec), "--store", str(tmp_path / "store"), "--format", "json"]
    (row,) = json.loads(CliRunner().invoke(calibrate, [*to, "--no-texts"], catch_exceptions=False).stdout)
    assert row["alpha"] == pytest.approx(row["dose"] * row["residual_norm"] / row["norm"])
    assert row["rule_300"] == pytest.approx(300 / row["norm"])
    rows = json.loads(CliRunner().invoke(sweep_layers, [*to, "--damage", "0.05"], catch_exceptions=False).stdout)
    assert sorted(row["layer"] for row in rows) == [0, 1, 2]
    assert all(row["odd_effect"] > 0 for row in rows)


def test_a_dose_is_not_looked_for_where_its_damage_cannot_be_measured(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    concept, spec = tmp_path / "capitals.yaml", tmp_path / "spec.yaml"
    concept.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    monkeypatch.setattr("steering_core.pipeline.stages.neutral_answers", lambda *of: [])
    unasked = {**quick.SPEC, "scores": {**quick.SCORES, "metrics": ["propensity"]}}
    for asked, kind, said in (
        (unasked, SpecError, "scores.metrics leaves out"),
        (quick.SPEC, ModelError, "ends its answer to every neutral prompt before the first token"),
    ):
        spec.write_text(yaml.safe_dump({"models": [setup.model.name], "concepts": [str(concept)], **asked}))
        for command, more in ((calibrate, ["--no-texts"]), (sweep_layers, ["--damage", "0.05"])):
            done = CliRunner().invoke(command, [str(spec), *more, "--store", str(tmp_path / "store")])
            assert isinstance(done.exception, kind)
            assert said in str(done.exception)


def test_a_concept_that_is_missing_does_not_keep_the_others_rows_from_being_printed(
    setup: Setup, tmp_path: Path
) -> None:
    concept, spec = tmp_path / "capitals.yaml", tmp_path / "spec.yaml"
    concept.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec.write_text(
        yaml.safe_dump(
            {"models": [setup.model.name], "concepts": [str(concept), str(tmp_path / "nowhere.yaml")], **quick.SPEC}
        )
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
