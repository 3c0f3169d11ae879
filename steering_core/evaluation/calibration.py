"""Calibration: the largest alpha of each vector within the damage bounds, measured by bisection.

All vectors of a model are bisected together: a round is one batch of cells. KL on neutral prompts comes first, since it
needs one token a prompt; perplexity of sampled texts then lowers the strength where it must.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.evaluation.cells import Cell, unsteered
from steering_core.evaluation.recommendations import Bounds
from steering_core.generations import generate
from steering_core.scores.measure import measure_neutral, measure_texts
from steering_core.scores.metrics import Bench
from steering_core.scores.summary import cell_values
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.vectors.vector import Vector

FIRST_DOSE, DOUBLINGS, STEPS = 0.025, 7, 4  # doses 0.025 .. 1.6, then to within a sixteenth
TEXT_STEPS = 3
RULES = {"rule_300": 300.0, "rule_50": 50.0}  # alpha = this over the vector's norm

Damage = Callable[[Sequence[float]], np.ndarray]
"""Damage of every vector at its own dose, (V,) -> (V,), in units of what is allowed; nan counts as too much."""


@dataclass(frozen=True)
class Calibrated:
    """The largest dose of a vector within the bounds, and the damage measured there; dose 0 where none is."""

    vector: Vector
    dose: float
    kl: float
    perplexity_ratio: float | None

    @property
    def alpha(self) -> float:
        """The largest multiplier within the bounds."""
        return self.vector.alpha(self.dose)

    def row(self) -> dict[str, Any]:
        """As a row for people: beside two rules of thumb, alpha = 300 / norm and 50 / norm, and how good they are."""
        vector = self.vector
        row: dict[str, Any] = {"method": vector.method, "layer": vector.layer, "norm": vector.norm}
        row |= {"residual_norm": vector.residual_norm, "alpha": self.alpha, "dose": self.dose, "kl": self.kl}
        row |= {"perplexity_ratio": self.perplexity_ratio}
        for name, numerator in RULES.items():
            row |= {name: numerator / vector.norm, f"{name}_is": judged(numerator / vector.norm, self.alpha)}
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


class Calibration:
    """One calibration of vectors of one model and concept; what it measures stays in the store."""

    def __init__(self, bench: Bench, store: Store, vectors: Sequence[Vector], spec: GenerationsSpec) -> None:
        self.bench, self.store, self.vectors, self.spec = bench, store, list(vectors), spec
        self.unsteered = unsteered(bench.model.identity, bench.concept, spec.phase)

    def cells(self, doses: Sequence[float]) -> list[Cell]:
        """Every vector at its own dose."""
        of = (self.bench.model.identity.model_id, self.bench.concept.concept_id, self.spec.phase)
        both = zip(self.vectors, doses, strict=True)
        return [Cell(*of, vector=vector, alpha=vector.alpha(dose)) for vector, dose in both]

    def kl(self, doses: Sequence[float], prompts: Sequence[str]) -> np.ndarray:
        """Mean KL of every vector at its own dose on neutral prompts, (V,) in nats."""
        did = measure_neutral(self.bench, self.store, self.cells(doses), prompts, "validation", ["kl"])
        return self._means(doses, "kl", did.measurement_ids)

    def perplexity_ratio(self, doses: Sequence[float]) -> np.ndarray:
        """Geometric mean of the texts' perplexity ratios of every vector at its own dose, (V,)."""
        cells = [self.unsteered, *self.cells(doses)]
        texts = generate(self.bench.model, self.store, self.bench.concept, cells, self.spec)
        did = measure_texts(self.bench, self.store, texts.generation_ids, "validation", ["perplexity"])
        return np.exp(self._means(doses, "perplexity_ratio", did.measurement_ids))

    def _means(self, doses: Sequence[float], metric: str, ids: Sequence[str]) -> np.ndarray:
        found = cell_values(self.store, [self.unsteered, *self.cells(doses)], ids)[1:]
        return np.array([np.mean(list(v[metric].values())) if v.get(metric) else np.nan for v in found])

    def within(self, bounds: Bounds, prompts: Sequence[str], texts: bool = True) -> list[Calibrated]:
        """The largest dose of every vector within the bounds; without `texts` by KL alone."""
        doses = bisected(lambda d: self.kl(d, prompts) / bounds.kl, len(self.vectors), FIRST_DOSE, DOUBLINGS, STEPS)
        ratios: list[float | None] = [None] * len(doses)
        if texts:
            doses = self._lowered(doses, bounds.perplexity_ratio)
            ratios = [float(ratio) for ratio in self.perplexity_ratio(doses)]
        found = zip(self.vectors, doses, self.kl(doses, prompts), ratios, strict=True)
        return [Calibrated(vector, dose, float(kl), ratio) for vector, dose, kl, ratio in found]

    def _lowered(self, doses: Sequence[float], bound: float) -> list[float]:
        """`doses`, bisected down to the perplexity bound where texts go beyond it."""
        within, beyond = np.zeros(len(doses)), np.array(doses)
        fits = self.perplexity_ratio(doses) <= bound
        within = np.where(fits, beyond, within)
        for _ in range(TEXT_STEPS):
            if (within == beyond).all():
                break
            middle = (within + beyond) / 2
            fits = self.perplexity_ratio(middle.tolist()) <= bound
            within, beyond = np.where(fits, middle, within), np.where(fits, beyond, middle)
        return within.tolist()
