"""Statistics: intervals and tests over subjects (items, texts), seeded, without assumptions about distributions."""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
FLIPS = 9999  # sign flips of a permutation test: the least p-value is 1e-4
_DRAWN_AT_ONCE = 1 << 22


def mean_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of `values` (N,) and its percentile bootstrap interval at 95 %. Efron and Tibshirani 1993."""
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    means = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)


def student_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of `values` (N,) and Student's t interval at 95 %, for few values of roughly normal spread. Student 1908.

    A percentile bootstrap of so few is too narrow: of six values it has 70 % of this width, of eight 78 %. nan ends
    for one value, which says nothing about its spread.
    """
    n = len(values)
    if n < 2:
        return float(values.mean()) if n else float("nan"), float("nan"), float("nan")
    mean, error = float(values.mean()), float(values.std(ddof=1)) / n**0.5
    reach = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - reach, mean + reach


def sign_flip_p(differences: np.ndarray, seed: int) -> float:
    """One-sided p-value that paired `differences` (N,) have a mean above 0: the share of sign flips that reach it.

    All 2^N flips where those are few, otherwise a seeded sample of them. Fisher 1935; the observed one counts as a
    flip, so it is never 0 (Phipson and Smyth 2010). nan for no differences.
    """
    n = len(differences)
    if n == 0:
        return float("nan")
    total = differences.sum()
    tolerance = 1e-12 * np.abs(differences).sum()
    if 2**n <= FLIPS + 1:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((signs @ differences >= total - tolerance).mean())
    generator = np.random.default_rng(seed)
    reached, left = 0, FLIPS
    while left:
        rows = min(left, max(1, _DRAWN_AT_ONCE // n))
        signs = generator.integers(0, 2, (rows, n), dtype=np.int8) * 2 - 1
        reached += int((signs @ differences >= total - tolerance).sum())
        left -= rows
    return (reached + 1) / (FLIPS + 1)


def holm(p_values: Sequence[float], n: int | None = None) -> list[float]:
    """p-values corrected for `n` comparisons (as many as there are, by default), in their order. Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, least, m = [0.0] * len(p_values), 0.0, n or len(p_values)
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (m - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def above_chance(value: float, controls: Sequence[float], beyond: float) -> float:
    """How many standard deviations of a new draw `value` lies above its `controls`; inf where they do not vary.

    The controls are draws of what a direction without meaning does; `beyond` is the least deviation that counts, a
    floor for the case of few controls that happen to agree. nan for fewer than two.
    """
    if len(controls) < 2:
        return float("nan")
    spread = max(float(np.std(controls, ddof=1)), beyond) * float(np.sqrt(1 + 1 / len(controls)))
    gap = value - float(np.mean(controls))
    return gap / spread if spread > 0 else float(np.copysign(np.inf, gap))
