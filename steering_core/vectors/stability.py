"""Stability: how far a direction would move had other pairs been drawn. Every figure is a cosine of two directions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.statistics.separation import Estimate, interval
from steering_core.vectors.methods import METHODS

Places = tuple[np.ndarray, np.ndarray]
"""Indices (n,) of positive and (m,) of negative rows; of pairs both are the same."""

Fit = Callable[[Places], np.ndarray]
"""The unit direction (D,) that a method finds in the rows at some places; nan where it finds none."""

CURVE_DRAWS = 10  # subsets of each size in a sample-size curve


@dataclass(frozen=True)
class SideSizes:
    """How many rows either side has, and whether they are chosen as pairs or each side by itself."""

    positive: int
    negative: int
    paired: bool = True

    @property
    def n(self) -> int:
        """The pairs, or the rows of the smaller side."""
        return min(self.positive, self.negative)

    @property
    def all(self) -> Places:
        """Every row."""
        return self.chosen(np.arange)

    def chosen(self, choose: Callable[[int], np.ndarray]) -> Places:
        """The indices that `choose` picks of n rows: once for pairs, else once for each side."""
        places = choose(self.positive)
        return places, places if self.paired else choose(self.negative)

    def without_one(self) -> Iterator[Places]:
        """Every choice of all rows but one: all pairs but one, or one positive and then one negative row left out."""
        positive, negative = self.all
        for i in range(self.positive):
            rest = np.delete(positive, i)
            yield rest, rest if self.paired else negative
        for i in range(0 if self.paired else self.negative):
            yield positive, np.delete(negative, i)


def fit_of(method: str, positive: np.ndarray, negative: np.ndarray) -> Fit:
    """The function that runs the method on any choice of these rows, (N, D) and (M, D)."""
    positive, negative = positive.astype(np.float64), negative.astype(np.float64)

    def fit(places: Places) -> np.ndarray:
        """The method's direction from the rows at `places`, at length 1; nan where it is zero."""
        found = METHODS[method](positive[places[0]], negative[places[1]])
        norm = np.linalg.norm(found)
        return found / norm if norm > 0 else np.full(found.shape, np.nan)

    return fit


def split_half(fit: Fit, rows: SideSizes, draws: int, random: np.random.Generator) -> Estimate | None:
    """Cosine of the directions of two random halves of the rows; None where a side has a single row."""
    if rows.n < 2:
        return None
    orders = [rows.chosen(random.permutation) for _ in range(draws)]
    return _estimate([float(fit(_part(order, 0)) @ fit(_part(order, 1))) for order in orders], rows.n)


def _part(order: Places, half: int) -> Places:
    """The first or the second half of an order of either side."""
    one, other = (side[len(side) // 2 :] if half else side[: len(side) // 2] for side in order)
    return one, other


def bootstrap(fit: Fit, whole: np.ndarray, rows: SideSizes, draws: int, random: np.random.Generator) -> Estimate | None:
    """Cosine between the direction of rows drawn with replacement and the direction of all rows."""
    drawn = (rows.chosen(lambda n: random.integers(n, size=n)) for _ in range(draws))
    return _estimate([fit(places) @ whole for places in drawn], rows.n)


def sample_sizes(fit: Fit, whole: np.ndarray, rows: SideSizes, random: np.random.Generator) -> Iterator[Estimate]:
    """Cosine of the direction of 1, 2, 4, … rows of either side with the direction of all."""
    for size in (2**i for i in range(rows.n.bit_length()) if 2**i < rows.n):
        orders = [rows.chosen(random.permutation) for _ in range(CURVE_DRAWS)]
        if found := _estimate([fit((some[:size], others[:size])) @ whole for some, others in orders], size):
            yield found


def influences(fit: Fit, whole: np.ndarray, rows: SideSizes) -> list[float]:
    """How far leaving out each pair or text turns the direction: 1 - cosine; nan where nothing is left of its side."""
    return [float(1 - fit(places) @ whole) if min(map(len, places)) else float("nan") for places in rows.without_one()]


def _estimate(drawn: Sequence[float], n: int) -> Estimate | None:
    """The mean of the finite draws; None where there is none."""
    finite = np.array([value for value in drawn if np.isfinite(value)])
    return Estimate(float(finite.mean()), *interval(finite), n) if len(finite) else None
