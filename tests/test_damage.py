"""Damage: its closed form on the toy model, the curve over doses, the slope that texts say, and the dose's interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.candidates.answers import neutral_answers
from steering_core.candidates.cell import Cell
from steering_core.evaluation.bounds import LEAST_SLOPE, MARGIN, SLOPE_SPREAD, USUAL_SLOPE, Bounds, allowed_damage
from steering_core.evaluation.curve import MOST_DOSE, Curve, curves_to, rounded
from steering_core.evaluation.damage import USUAL, Damage, Uncertain, dose_interval, expected_ratio, slopes
from steering_core.foundation.counting import Work
from steering_core.scores.metrics import Setup
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy
from tests.toy import CONCEPT, NEUTRAL

SPEC = GenerationsSpec(max_tokens=5, temperature=0.7)
LETTERS = (
    "Fire",
    "STOP",
)  # after a letter some tokens are likelier; after another all are alike, and a tie is rounding's


def along_v(setup: Setup, alpha: float) -> Cell:
    """Alpha times the direction that capitals read, added at the middle layer."""
    _, v = toy.axes()
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "planted")
    return Cell.adding(*of[:2], "generation", [Vector("v", *of, 1, 10.0, direction=np.float32(v))], [alpha])


def expected(token: int, alpha: float, temperature: float) -> float:
    """The closed form after one token: H(steered, untouched) - H(untouched, untouched), in nats."""
    surprisal = -toy.log_softmax(toy.logits_after(token, 0.0))
    steered, untouched = (np.exp(toy.log_softmax(toy.logits_after(token, a) / temperature)) for a in (alpha, 0.0))
    return float(((steered - untouched) * surprisal).sum())


@pytest.mark.parametrize("temperature", [0.7, 1.0, 0.0])
def test_damage_is_the_closed_forms(setup: Setup, store: Store, temperature: float) -> None:
    spec = SPEC.model_copy(update={"temperature": temperature})
    answers = neutral_answers(setup.model, store, CONCEPT, LETTERS, spec, Work())
    found = Damage(setup, store, answers).of([along_v(setup, 0.0), along_v(setup, 0.8), along_v(setup, -0.8)])
    for answer, column in zip(answers, found.T, strict=True):
        read = (answer.prompt[-1], *answer.tokens[:-1])
        by_hand = [np.mean([expected(t, alpha, temperature or 1.0) for t in read]) for alpha in (0.0, 0.8, -0.8)]
        assert column == pytest.approx(by_hand, abs=2e-5)
    assert np.abs(found[1:]).max() > 0.01  # so that the comparison says something


def test_answers_are_drawn_once_whatever_the_specs_seed(setup: Setup, store: Store) -> None:
    first, work = neutral_answers(setup.model, store, CONCEPT, NEUTRAL, SPEC, Work()), Work()
    again = neutral_answers(setup.model, store, CONCEPT, NEUTRAL, SPEC.model_copy(update={"seed": 7}), work)
    assert again == first
    assert work.tokens == 0
    assert len({answer.answer_id for answer in first}) == len(NEUTRAL)


def test_a_curve_meets_its_points_and_is_a_square_beyond_them() -> None:
    curve = Curve().with_point(0.2, 0.04).with_point(0.4, 0.16)
    assert curve.dose_at(0.04) == pytest.approx(0.2)
    assert curve.dose_at(0.09) == pytest.approx(0.3)
    assert curve.dose_at(0.01) == pytest.approx(0.1)
    assert curve.damage_at(0.8) == pytest.approx(0.64)
    assert Curve((0.2,), (0.04,)).dose_at(0.08) == pytest.approx(0.2 * math.sqrt(2))


def test_more_of_a_direction_is_no_less_damage() -> None:
    curve = Curve((0.1, 0.2, 0.3), (0.05, 0.2, 0.1))  # a noisy third point
    doses = [curve.dose_at(damage) for damage in (0.05, 0.1, 0.15, 0.3)]
    assert doses == sorted(doses)
    assert Curve((0.3,), (math.nan,)).dose_at(0.2) == pytest.approx(0.3 / 4)  # what diverges is far too much
    assert Curve((0.5,), (-0.1,)).dose_at(0.2) == MOST_DOSE  # what makes text likelier has no bound but this
    at_first_likelier = Curve((0.3, 0.5), (-0.0005, 0.021))
    assert 0.45 < at_first_likelier.dose_at(0.018) < 0.5


@given(st.lists(st.floats(0.02, 8.0), min_size=1, max_size=6), st.floats(1.5, 2.6))
def test_the_dose_of_a_damage_is_found_within_a_few_measurements(slopes_of: list[float], exponent: float) -> None:
    factors = np.array(slopes_of)
    asked: list[int] = []

    def damages(doses: object) -> np.ndarray:
        asked.append(1)
        return factors * np.array(doses) ** exponent

    curves = curves_to(damages, [0.3] * len(factors), 0.25, rounds=5)
    for factor, curve in zip(factors, curves, strict=True):
        exact = (0.25 / factor) ** (1 / exponent)
        assert curve.dose_at(0.25) == pytest.approx(min(exact, MOST_DOSE), rel=0.1)
    assert len(asked) <= 5


def test_a_dose_is_rounded_down_to_three_digits() -> None:
    assert [rounded(dose) for dose in (0.25, 0.2599, 1.2345, 0.012389)] == [0.25, 0.259, 1.23, 0.0123]


def test_a_slope_is_shrunk_as_far_as_texts_are_few() -> None:
    steep = 0.25 * np.array([2.0, 2.1, 1.9, 2.0] * 20)
    noisy = 0.25 * np.array([8.0, -4.0, 6.0, -2.0])
    of = slopes([(0.25, steep), (0.25, noisy), (0.25, np.array([]))])
    found = dict(zip(("steep", "noisy", "none"), of, strict=True))
    assert found["steep"].value == pytest.approx(2.0, abs=0.05)
    assert found["steep"].error < 0.05 < found["none"].error
    assert abs(found["noisy"].value - found["none"].value) < 0.05  # what it adds to what is common
    assert USUAL_SLOPE < found["none"].value < 2.0
    assert slopes([(0.0, steep)])[0].value == pytest.approx(USUAL_SLOPE)


def test_texts_that_agree_by_chance_do_not_tell_a_slope_for_certain() -> None:
    agreeing, usual = slopes([(0.25, np.array([1.0, 1.0, 1.0])), (0.25, np.array([]))])
    its_own = 0.41 * math.sqrt(4 / 6) / math.sqrt(3) / 0.25  # two squares of 0, pooled with four of 0.41
    assert agreeing.error == pytest.approx((SLOPE_SPREAD**-2 + its_own**-2) ** -0.5)
    assert usual.value < agreeing.value < 3.0  # the texts alone say 4.0


def test_the_expected_ratio_lies_between_what_texts_and_damage_say() -> None:
    sure, unsure = Uncertain(math.log(1.2), 0.01), Uncertain(math.log(1.9), 10.0)
    foreseen = expected_ratio(0.2, USUAL, None)
    assert foreseen == pytest.approx(math.exp(0.2 * USUAL_SLOPE))
    assert expected_ratio(0.2, USUAL, sure) == pytest.approx(1.2, rel=0.01)
    assert expected_ratio(0.2, USUAL, unsure) == pytest.approx(foreseen, rel=0.01)


def test_bounds_are_stated_in_damage() -> None:
    bounds = Bounds(1.5, 1.0)
    assert allowed_damage(1.5) == pytest.approx(math.log(1.5) / 1.4)
    assert bounds.wanted_damage() < allowed_damage(1.5)
    assert bounds.share(USUAL_SLOPE * bounds.wanted_damage()) == pytest.approx(MARGIN)


def test_a_doses_interval_holds_the_true_one() -> None:
    random, held = np.random.default_rng(0), 0
    doses = (0.15, 0.3, 0.45)
    for seed in range(60):
        of_answers = 2.9 * np.exp(random.normal(0, 0.5, 24))
        damages = np.array([of_answers * dose**2 for dose in doses])
        truth = math.sqrt(allowed_damage(1.5) / (2.9 * math.exp(0.125)))
        low, high = dose_interval(doses, damages, 1.5, USUAL, 200, seed)
        held += low <= truth <= high
    assert held >= 54


def test_the_plainer_texts_are_the_more_damage_is_allowed_up_to_a_bound() -> None:
    allowed = [allowed_damage(1.5, slope) for slope in (2.6, 1.4, LEAST_SLOPE, 0.1, 0.0, -0.22, -3.0)]
    assert allowed == sorted(allowed)
    assert allowed[-1] == pytest.approx(math.log(1.5) / LEAST_SLOPE)


@settings(deadline=None, max_examples=50)  # each draws 200 curves
@given(st.floats(-3.0, 3.0), st.floats(0.0, 1.0))
def test_the_interval_of_a_dose_holds_the_dose_whatever_texts_say(slope: float, error: float) -> None:
    doses, damages = (0.15, 0.3), np.outer([0.05, 0.2], [0.7, 1.0, 1.3])
    dose = Curve(doses, tuple(damages.mean(axis=1))).safe_at(allowed_damage(1.5, slope))
    low, high = dose_interval(doses, damages, 1.5, Uncertain(slope, error), 200, 0)
    assert low <= dose * 1.01
    assert dose <= high * 1.01
    assert high > 1.05 * low  # answers differ, so that no dose is certain


def test_no_dose_is_safe_beyond_what_was_measured_where_that_did_no_damage() -> None:
    assert Curve((0.2, 0.5), (-0.02, -0.1)).safe_at(0.2) == 0.5
    assert Curve((0.2, 0.4), (0.04, 0.16)).safe_at(0.25) == pytest.approx(0.5)
