"""Calibration: the largest dose of each direction within the damage bounds, measured by bisection.

All directions are bisected together: a round is one batch of cells. KL on neutral prompts comes first, since it
needs one token a prompt; perplexity of sampled texts, at the upper end of its interval, then lowers the strength where
it must.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.candidates.cell import Cell, unsteered
from steering_core.candidates.generations import generate
from steering_core.evaluation.recommendations import Bounds
from steering_core.foundation.counting import Done
from steering_core.foundation.progress import Progress, silent
from steering_core.scores.measure import measure_neutral, measure_texts
from steering_core.scores.metrics import Bench
from steering_core.scores.summary import cell_values
from steering_core.spec import GenerationsSpec
from steering_core.statistics.intervals import student_interval
from steering_core.store import Store

FIRST_DOSE, DOUBLINGS, STEPS = 0.025, 7, 4  # doses 0.025 .. 1.6, then to within a sixteenth
TEXT_STEPS = 3
RULES = {"rule_300": 300.0, "rule_50": 50.0}  # alpha = this over the vector's norm

Damage = Callable[[Sequence[float]], np.ndarray]
"""Damage of every direction at its own dose, (V,) -> (V,), in units of what is allowed; nan counts as too much."""


@dataclass(frozen=True)
class Calibrated:
    """A direction at its largest dose within the bounds, and the damage measured there; dose 0 where none is."""

    cell: Cell
    dose: float
    kl: float
    perplexity_ratio: float | None

    def row(self) -> dict[str, Any]:
        """As a row for people: beside two rules of thumb, alpha = 300 / norm and 50 / norm, and how good they are."""
        vector, alpha = self.cell.vector, self.cell.alpha
        assert vector is not None, "the rules of thumb are about one vector"
        assert alpha is not None, "a vector has a multiplier"
        row: dict[str, Any] = {"method": vector.method, "layer": vector.layer, "norm": vector.norm}
        row |= {"residual_norm": vector.residual_norm, "alpha": alpha, "dose": self.dose, "kl": self.kl}
        row |= {"perplexity_ratio": self.perplexity_ratio}
        for name, numerator in RULES.items():
            row |= {name: numerator / vector.norm, f"{name}_is": judged(numerator / vector.norm, alpha)}
        return row


def judged(rule: float, largest: float) -> str:
    """What a rule's alpha is beside the largest within bounds: too strong, good (at least half of it), or too weak."""
    if rule > largest:
        return "too strong"
    return "good" if rule >= largest / 2 else "too weak"


def bisected(damage: Damage, n: int, first: float, doublings: int, steps: int) -> list[float]:
    """The largest doses (V,) at which `damage` stays within 1: `first` doubled until it does not, then bisected.

    Damage is taken to grow with the dose. 0 where even a dose far below `first` is too much.
    """
    within, beyond = np.zeros(n), np.full(n, np.nan)
    dose = np.full(n, first)
    for _ in range(doublings):
        growing = np.isnan(beyond)
        if not growing.any():
            break
        fits = damage(np.where(growing, dose, within).tolist()) <= 1
        within = np.where(growing & fits, dose, within)
        beyond = np.where(growing & ~fits, dose, beyond)
        dose = dose * 2
    beyond = np.where(np.isnan(beyond), within, beyond)  # within bounds at every dose tried
    for _ in range(steps):
        middle = (within + beyond) / 2
        fits = damage(middle.tolist()) <= 1
        within, beyond = np.where(fits, middle, within), np.where(fits, beyond, middle)
    return within.tolist()


def lowered(damage: Damage, doses: Sequence[float], steps: int) -> list[float]:
    """`doses` (V,), each bisected down to where `damage` stays within 1; 0 where none of the steps gets there."""
    within, beyond = np.zeros(len(doses)), np.array(doses)
    within = np.where(damage(doses) <= 1, beyond, within)
    for _ in range(steps):
        if (within == beyond).all():
            break
        middle = (within + beyond) / 2
        fits = damage(middle.tolist()) <= 1
        within, beyond = np.where(fits, middle, within), np.where(fits, beyond, middle)
    return within.tolist()


@dataclass(frozen=True)
class Ladder:
    """The doses that a bisection tries: `first`, doubled so often, then as many steps between within and beyond."""

    first: float = FIRST_DOSE
    doublings: int = DOUBLINGS
    steps: int = STEPS
    text_steps: int = TEXT_STEPS


class Calibration:
    """One calibration of directions of one model and concept; what it measures stays in the store."""

    def __init__(
        self,
        bench: Bench,
        store: Store,
        directions: Sequence[Cell],
        spec: GenerationsSpec,
        ladder: Ladder = Ladder(),
        progress: Progress = silent,
    ) -> None:
        self.bench, self.store, self.directions, self.spec, self.ladder = bench, store, list(directions), spec, ladder
        self.progress = progress
        self.unsteered = unsteered(bench.model.identity, bench.concept)
        self.generated = Done()

    def cells(self, doses: Sequence[float]) -> list[Cell]:
        """Every direction at its own dose, each its own way."""
        return [cell.at(cell.way * dose) for cell, dose in zip(self.directions, doses, strict=True)]

    def kl(self, doses: Sequence[float], prompts: Sequence[str]) -> np.ndarray:
        """Mean KL of every direction at its own dose on neutral prompts, (V,) in nats."""
        did = measure_neutral(self.bench, self.store, self.cells(doses), prompts, "validation", ["kl"])
        found = self._values(doses, "kl", did.ids)
        return np.array([values.mean() if len(values) else np.nan for values in found])

    def perplexity_ratio(self, doses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Geometric mean of the texts' perplexity ratios of every direction at its own dose, and the upper end of its
        interval, (V,) each.
        """
        cells = [self.unsteered, *self.cells(doses)]
        texts = generate(
            self.bench.model, self.store, self.bench.concept, cells, self.spec, "validation", self.progress
        )
        self.generated += texts
        did = measure_texts(self.bench, self.store, texts.ids, "validation", ["perplexity"])
        found = self._values(doses, "perplexity_ratio", did.ids)
        means, _, upper = np.exp(np.array([student_interval(logarithms) for logarithms in found])).T
        return means, upper

    def _values(self, doses: Sequence[float], metric: str, ids: Sequence[str]) -> list[np.ndarray]:
        found = cell_values(self.store, [self.unsteered, *self.cells(doses)], ids)[1:]
        return [np.array(list(values.get(metric, {}).values())) for values in found]

    def within(self, bounds: Bounds, prompts: Sequence[str], texts: bool = True) -> list[Calibrated]:
        """Every direction at its largest dose within the bounds; without `texts` by KL alone."""
        steps, n = self.ladder, len(self.directions)
        doses = bisected(lambda d: self.kl(d, prompts) / bounds.kl, n, steps.first, steps.doublings, steps.steps)
        ratios: list[float | None] = [None] * len(doses)
        if texts:
            allowed = bounds.perplexity_ratio
            doses = lowered(lambda d: self.perplexity_ratio(d)[1] / allowed, doses, self.ladder.text_steps)
            ratios = [float(ratio) for ratio in self.perplexity_ratio(doses)[0]]
        found = zip(self.cells(doses), doses, self.kl(doses, prompts), ratios, strict=True)
        return [Calibrated(cell, dose, float(kl), ratio) for cell, dose, kl, ratio in found]
