"""Stability: how far a direction would move had other pairs been drawn. Every figure is a cosine of two directions."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from steering_core.statistics.separation import Estimate, interval
from steering_core.vectors.methods import METHODS

Fit = Callable[[np.ndarray], np.ndarray]
"""The unit direction of the pairs at those places, (n,) whole -> (D,); nan where the method finds none."""

CURVE_DRAWS = 10  # subsets of each size in a sample-size curve


def fit_of(method: str, positive: np.ndarray, negative: np.ndarray) -> Fit:
    """A method over any choice of these pairs, (N, D) twice."""
    positive, negative = positive.astype(np.float64), negative.astype(np.float64)

    def fit(places: np.ndarray) -> np.ndarray:
        found = METHODS[method](positive[places], negative[places])
        norm = np.linalg.norm(found)
        return found / norm if norm > 0 else np.full(found.shape, np.nan)

    return fit


def split_half(fit: Fit, n: int, draws: int, random: np.random.Generator) -> Estimate | None:
    """Cosine of the directions of two random halves of n pairs; None for one pair."""
    if n < 2:
        return None
    orders = [random.permutation(n) for _ in range(draws)]
    return _estimate([float(fit(order[: n // 2]) @ fit(order[n // 2 :])) for order in orders], n)


def bootstrap(fit: Fit, whole: np.ndarray, n: int, draws: int, random: np.random.Generator) -> Estimate | None:
    """Cosine of the direction of n pairs drawn with replacement with the direction of all of them."""
    return _estimate([fit(random.integers(n, size=n)) @ whole for _ in range(draws)], n)


def sample_sizes(fit: Fit, whole: np.ndarray, n: int, random: np.random.Generator) -> Iterator[Estimate]:
    """Cosine of the direction of 1, 2, 4, … of the pairs with the direction of all n: would fewer have done?"""
    for size in (2**i for i in range(20) if 2**i < n):
        drawn = [fit(random.permutation(n)[:size]) @ whole for _ in range(CURVE_DRAWS)]
        if found := _estimate(drawn, size):
            yield found


def influences(fit: Fit, whole: np.ndarray, n: int) -> list[float]:
    """How far leaving out each pair turns the direction: 1 - cosine, one a pair; nan where nothing is left."""
    everyone = np.arange(n)
    return [float(1 - fit(np.delete(everyone, i)) @ whole) if n > 1 else float("nan") for i in range(n)]


def _estimate(drawn: Sequence[float], n: int) -> Estimate | None:
    """The mean of the finite draws; None where there is none."""
    finite = np.array([value for value in drawn if np.isfinite(value)])
    return Estimate(float(finite.mean()), *interval(finite), n) if len(finite) else None
