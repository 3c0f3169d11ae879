"""Relabelling: the sides of a contrast dealt anew, in how many ways that can be done, and draws that all differ."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steering_core.concepts import Concept
from steering_core.foundation.keys import seed_from

PERMUTED = "permuted"


@dataclass(frozen=True)
class Relabellings:
    """The ways to label `n_positive` and `n_negative` training rows, their own labels among them.

    Where `paired`, each of N pairs keeps its sides or exchanges them: 2^N ways. Unpaired texts are dealt to two sides
    of N and M: C(N + M, N) ways.
    """

    n_positive: int
    n_negative: int
    paired: bool

    @classmethod
    def of(cls, concept: Concept) -> "Relabellings":
        """The ways to label a concept's training pairs or texts."""
        positive, negative = (len(concept.texts_in("train", side)) for side in ("positive", "negative"))
        return cls(positive, negative, concept.unpaired is None)

    @cached_property
    def n_ways(self) -> int:
        """How many ways there are; the rank of a statistic among all of them is a p-value of 1 / `n_ways` at least.

        One whose sides are the other way round is counted: it is among the ways where the sides have one size. Where
        they have not, an opposite adds no way, although a draw's is a null effect of its own: labels that mean nothing
        are equally likely to be any of C(N + M, N), and not the opposite of one.
        """
        n, m = self.n_positive, self.n_negative
        return int(2**n if self.paired else math.comb(n + m, n))

    @property
    def n_draws(self) -> int:
        """How many draws can differ, where a draw stands for its opposite too; the rows' own labels are no draw.

        With every draw, each opposite and the opposite of the own labels there are `n_ways` - 1 null effects, or
        2 `n_ways` - 1 for sides of two sizes.
        """
        return self.n_ways // 2 - 1 if self._has_opposites else self.n_ways - 1

    @property
    def _has_opposites(self) -> bool:
        return self.paired or self.n_positive == self.n_negative

    def distinct_seeds(self, concept_id: str, draws: int) -> list[int]:
        """Seeds of so many draws, or of `n_draws` if these are fewer, of which none is another one or its opposite.

        They are the seeds of draw 0, 1, 2, …; one that draws what an earlier one drew is left out, which hardly happens
        from 16 pairs on.
        """
        seeds: list[int] = []
        seen: set[bytes] = set()
        draw, wanted = 0, min(draws, self.n_draws)
        while len(seeds) < wanted:
            seed, draw = seed_from(PERMUTED, concept_id, draw), draw + 1
            if (drawn := self._drawn(seed)) not in seen:
                seen.add(drawn)
                seeds.append(seed)
        return seeds

    def _drawn(self, seed: int) -> bytes:
        """Which rows a seed makes positive, or negative where that says the same and the first row would not be in."""
        rows = np.arange(self.n_positive + self.n_negative)
        one, _ = relabelled(rows[: self.n_positive], rows[self.n_positive :], self.paired, np.random.default_rng(seed))
        inside = np.isin(rows, one)
        return np.packbits(~inside if self._has_opposites and not inside[0] else inside).tobytes()


def relabelled(
    positive: np.ndarray, negative: np.ndarray, paired: bool, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of two sides, (N, …) and (M, …), under other labels that are not all the other way round either.

    A single pair, or one text a side, has no such labels, and comes back as it is or exchanged.
    """
    dealt: Callable[..., tuple[np.ndarray, np.ndarray]] = _exchanged if paired else _dealt
    return dealt(positive, negative, random)


def _exchanged(
    positive: np.ndarray, negative: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The two sides, (N, …) each, after some pairs exchanged theirs: at least one pair, and not all."""
    exchanged = random.integers(0, 2, len(positive)).astype(bool)
    while len(positive) > 1 and (exchanged.all() or not exchanged.any()):
        exchanged = random.integers(0, 2, len(positive)).astype(bool)
    at = exchanged.reshape(-1, *[1] * (positive.ndim - 1))
    return np.where(at, negative, positive), np.where(at, positive, negative)


def _dealt(positive: np.ndarray, negative: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All rows dealt at random to two sides of N and M; never as they were, nor the other way round."""
    rows, n = np.concatenate([positive, negative]), len(positive)
    order = random.permutation(len(rows))
    while len(rows) > 2 and _same_sides(order[:n] < n, len(negative)):
        order = random.permutation(len(rows))
    return rows[order[:n]], rows[order[n:]]


def _same_sides(is_positive: np.ndarray, n_negative: int) -> bool:
    """Whether the first side (N,) holds exactly the positive rows again, or exactly the negative ones."""
    return bool(is_positive.all() or (not is_positive.any() and len(is_positive) == n_negative))
