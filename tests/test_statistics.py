"""Statistics against closed forms, exhaustive counts and their own promises."""

import itertools
import math

import numpy as np
import pytest

from steering_core.scores.summary import _by_subject, _score
from steering_core.statistics.intervals import above_chance, holm, mean_interval, sign_flip_p, student_interval


def test_an_interval_holds_the_mean_and_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 50)
    mean, low, high = mean_interval(values, 2000, seed=3)
    assert mean == values.mean()
    standard_error = values.std(ddof=1) / math.sqrt(50)
    assert low == pytest.approx(mean - 1.96 * standard_error, abs=0.1)
    assert high == pytest.approx(mean + 1.96 * standard_error, abs=0.1)
    assert mean_interval(values, 2000, seed=3) == (mean, low, high)
    assert mean_interval(values, 2000, seed=4) != (mean, low, high)
    assert all(math.isnan(x) for x in mean_interval(np.array([]), 100, 0))


def test_a_95_percent_interval_covers_the_truth_about_that_often() -> None:
    drawn = np.random.default_rng(1).normal(0.0, 1.0, (300, 40))
    covered = sum(low <= 0 <= high for _, low, high in (mean_interval(row, 400, 0) for row in drawn))
    assert 0.89 <= covered / 300 <= 0.99


def test_students_interval_of_few_values_covers_the_truth_where_a_bootstraps_does_not() -> None:
    assert student_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    drawn = np.random.default_rng(4).normal(0.0, 1.0, (1000, 6))
    student = np.mean([low <= 0 <= high for _, low, high in map(student_interval, drawn)])
    bootstrap = np.mean([low <= 0 <= high for _, low, high in (mean_interval(row, 200, 0) for row in drawn)])
    assert 0.93 <= student <= 0.97
    assert bootstrap < 0.89


def test_one_perplexity_has_no_interval() -> None:
    assert math.isnan(student_interval(np.array([1.0]))[2])
    row = _score("perplexity_ratio", np.array([0.0]), 200, 0)
    assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (1.0, None, None, 1)


def test_a_small_sample_counts_every_flip() -> None:
    differences = np.array([0.5, 1.0, -0.2, 0.7, 0.1])
    reached = [
        sum(s * d for s, d in zip(signs, differences, strict=True)) >= differences.sum() - 1e-12
        for signs in itertools.product((1, -1), repeat=5)
    ]
    assert sign_flip_p(differences, seed=0) == pytest.approx(np.mean(reached))


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    drawn = np.random.default_rng(2).normal(0.0, 1.0, (200, 24))
    p_values = np.array([sign_flip_p(row, seed=0) for row in drawn])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.10
    assert 0.4 <= p_values.mean() <= 0.6


def test_a_clear_difference_has_the_least_p_value_and_its_opposite_the_greatest() -> None:
    clear = np.full(30, 2.0)
    assert sign_flip_p(clear, seed=0) == 1e-4
    assert sign_flip_p(-clear, seed=0) == 1.0
    assert math.isnan(sign_flip_p(np.array([]), seed=0))


def test_holm_multiplies_the_least_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01], 15) == pytest.approx([0.15])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_above_chance_counts_deviations_of_a_new_draw() -> None:
    controls = [0.0, 1.0, -1.0]
    assert above_chance(2.0, controls, 0.0) == pytest.approx(2.0 / (1.0 * math.sqrt(4 / 3)))
    assert above_chance(2.0, controls, 10.0) == pytest.approx(0.2 / math.sqrt(4 / 3))
    assert above_chance(1.0, [0.0, 0.0], 0.0) == math.inf
    assert math.isnan(above_chance(1.0, [0.0], 0.0))


def test_what_a_seed_draws_does_not_depend_on_how_a_cell_is_called() -> None:
    """Measurements come back in the order of their keys, which hold the intervention's."""
    values = {"first item": 0.1, "second item": 2.0, "third item": -1.0}
    turned = dict(reversed(values.items()))
    assert _score("effect", _by_subject(values), 200, 0) == _score("effect", _by_subject(turned), 200, 0)
