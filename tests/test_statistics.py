"""Intervals hold what they say, and tests err as often as they say, on draws whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from steering_core.statistics.intervals import (
    above_zero_p,
    holm,
    lower_end,
    mean_interval,
    paired_change,
    paired_change_p,
    prediction_p,
    rank_p,
)


def test_a_mean_has_students_interval() -> None:
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert lower_end(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 - 2.9200 / math.sqrt(3), abs=1e-4)
    mean, low, high = mean_interval(np.array([1.0]))
    assert mean == 1.0
    assert math.isnan(low)
    assert math.isnan(high)
    assert lower_end(np.array([1.0])) == -math.inf
    assert all(math.isnan(x) for x in mean_interval(np.array([])))


@pytest.mark.parametrize("n", [8, 12, 24])
def test_intervals_hold_the_mean_as_often_as_they_say(n: int) -> None:
    drawn = np.random.default_rng(n).exponential(1.0, (4000, n)) - 1.0 if n == 24 else None
    drawn = np.random.default_rng(n).standard_normal((4000, n)) if drawn is None else drawn
    held = np.mean([low <= 0 <= high for _, low, high in map(mean_interval, drawn)])
    assert 0.92 <= held <= 0.965  # skewed values cost a little, and no more


def test_a_rank_is_a_p_value_of_the_size_that_it_says() -> None:
    random = np.random.default_rng(0)
    p = np.array([rank_p(row[0], row[1:].tolist()) for row in random.standard_normal((4000, 40))])
    assert 0.04 <= (p <= 0.05).mean() <= 0.06
    assert rank_p(9.0, [1.0] * 39) == 1 / 40
    assert rank_p(1.0, [1.0, 0.0, math.nan]) == 3 / 4  # a tie reaches it, and so does what diverged


def test_few_null_values_are_students_t() -> None:
    random = np.random.default_rng(1)
    p = np.array([prediction_p(row[0], row[1:].tolist(), 3) for row in random.standard_normal((4000, 4))])
    assert 0.04 <= (p <= 0.05).mean() <= 0.06
    assert prediction_p(1.0, [], 0) == 1.0
    assert prediction_p(1.0, [math.inf], 1) == 1.0
    assert prediction_p(1.0, [0.0, 0.0], 2) == 0.0


def test_a_mean_above_zero_is_told_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(2).standard_normal((4000, 12))
    assert 0.04 <= np.mean([above_zero_p(row) <= 0.05 for row in drawn]) <= 0.06
    assert above_zero_p(np.array([1.0, 1.0])) == 0.0
    assert above_zero_p(np.array([-1.0, -1.0])) == 1.0
    assert math.isnan(above_zero_p(np.array([1.0])))


def test_holm_multiplies_the_least_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_hands_back_what_was_not_tested_and_corrects_the_rest() -> None:
    untested, *others = holm([math.nan, 0.001, 0.002])
    assert math.isnan(untested)
    assert others == pytest.approx([0.002, 0.002])
    assert holm([0.03, math.nan, 0.01])[::2] == pytest.approx([0.03, 0.02])
    assert math.isnan(holm([math.nan])[0])


def test_a_change_of_paired_proportions_has_bonett_and_prices_interval() -> None:
    # Their formula by hand: 12 lost and 3 gained of 100, so (13 and 4) / 102.
    assert paired_change(12, 3, 100) == pytest.approx((-0.09, -0.16559, -0.01088), abs=1e-4)
    assert paired_change(0, 0, 100) == pytest.approx((0.0, -0.02717, 0.02717), abs=1e-4)
    assert paired_change(5, 0, 5)[1] == -1.0
    assert all(math.isnan(value) for value in paired_change(0, 0, 0))


@pytest.mark.parametrize(("down", "up"), [(0.0, 0.0), (0.02, 0.02), (0.1, 0.02), (0.15, 0.15), (0.4, 0.1)])
def test_the_interval_of_a_change_holds_it_in_95_of_100_draws(down: float, up: float) -> None:
    """Coverage at 100 items, summed over every outcome, so that no draw's luck is in it."""
    n, held = 100, 0.0
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            chance = stats.multinomial.pmf([lost, gained, n - lost - gained], n, [down, up, 1 - down - up])
            if chance > 1e-9:
                _, low, high = paired_change(lost, gained, n)
                held += chance * (low <= up - down <= high)
    assert 0.94 <= held <= 1


def test_a_changes_p_value_is_mcnemars_with_mid_p() -> None:
    assert paired_change_p(0, 0) == 1.0
    assert paired_change_p(4, 4) == 1.0
    assert paired_change_p(5, 0) == pytest.approx(2 * 0.5 * 0.5**5)
    # 8 against 1: twice (P(0) + P(1) / 2) of nine fair coins
    assert paired_change_p(8, 1) == paired_change_p(1, 8) == pytest.approx(2 * (1 + 9 / 2) / 2**9)
