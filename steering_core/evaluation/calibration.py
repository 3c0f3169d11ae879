"""Calibration: the largest dose of each direction within the damage bounds.

The dose is read off the direction's own curve of damage (`curve`); the perplexity ratio of its sampled texts says which
damage the direction may do (`damage.slopes`). The dose is lowered where KL on neutral next tokens exceeds its bound.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.candidates.cell import Cell, unsteered
from steering_core.candidates.generations import generate
from steering_core.evaluation.bounds import Bounds, allowed_damage
from steering_core.evaluation.curve import Curve, rounded
from steering_core.evaluation.damage import Damage, slopes, within_kl
from steering_core.foundation.counting import Done
from steering_core.foundation.progress import Progress, silent
from steering_core.scores.measure import measure_texts
from steering_core.scores.summary import cell_values
from steering_core.spec import GenerationsSpec

ROUNDS = 4  # doses of each direction that are measured
KL_ROUNDS = 16  # doses to which one is lowered, at most, until its KL is within the bound
RULES = {"rule_300": 300.0, "rule_50": 50.0}  # alpha = this over the vector's norm
_LEAST_DOSE = 1e-3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """A direction at its largest dose within the bounds, and its damage there.

    `perplexity_ratio` is the geometric mean over its texts, which were sampled at the dose that damage alone predicts;
    None without texts.
    """

    cell: Cell
    dose: float
    damage: float
    kl: float
    perplexity_ratio: float | None

    def row(self) -> dict[str, Any]:
        """The calibration as a row for people, beside two rules of thumb (alpha = 300 / norm, alpha = 50 / norm).

        Norm, alpha and the rules are null for several vectors that act together.
        """
        vector, alpha, columns = self.cell.vector, self.cell.alpha, self.cell.columns()
        row: dict[str, Any] = {"name": vector.own_name if vector else None}
        row |= {name: columns[name] for name in ("method", "layer", "layers")}
        row |= {"norm": vector.norm if vector else None, "residual_norm": vector.residual_norm if vector else None}
        row |= {"alpha": alpha, "dose": self.dose, "damage": self.damage}
        row |= {"kl": self.kl, "perplexity_ratio": self.perplexity_ratio}
        for name, numerator in RULES.items():
            rule = numerator / vector.norm if vector else None
            row |= {name: rule, f"{name}_is": judged(rule, alpha) if rule is not None and alpha is not None else None}
        return row


def judged(rule: float, largest: float) -> str:
    """What a rule's alpha is beside the largest within bounds: too strong, good (at least half of it), or too weak."""
    if rule > largest:
        return "too strong"
    return "good" if rule >= largest / 2 else "too weak"


class Calibration:
    """One calibration of directions of one model and concept; what it measures stays in the store."""

    def __init__(
        self,
        damage: Damage,
        directions: Sequence[Cell],
        neutral: Sequence[str],
        spec: GenerationsSpec,
        progress: Progress = silent,
    ) -> None:
        self.damage, self.directions, self.neutral, self.spec = damage, list(directions), neutral, spec
        self.setup, self.store, self.progress = damage.setup, damage.store, progress
        self.unsteered = unsteered(self.setup.model.identity, self.setup.concept)
        self.generated = Done()

    def within(self, bounds: Bounds, texts: bool = True) -> list[Calibrated]:
        """Every direction at its largest dose within the bounds; without `texts` by damage alone.

        A warning names those whose KL is beyond its bound at every dose that was tried.
        """
        curves = self.damage.curves(self.directions, allowed_damage(bounds.perplexity_ratio), rounds=ROUNDS)
        doses = [curve.safe_at(allowed_damage(bounds.perplexity_ratio)) for curve in curves]
        ratios: list[float | None] = [None] * len(doses)
        if texts:
            logarithms = self._log_ratios(self.cells([curve.dose_at(bounds.wanted_damage()) for curve in curves]))
            estimated = slopes([(bounds.wanted_damage(), found) for found in logarithms])
            allowed = [allowed_damage(bounds.perplexity_ratio, slope.value) for slope in estimated]
            doses = [curve.safe_at(damage) for curve, damage in zip(curves, allowed, strict=True)]
            ratios = [float(np.exp(found.mean())) if len(found) else None for found in logarithms]
        doses = [rounded(max(dose, _LEAST_DOSE)) for dose in doses]
        cells, kl = within_kl(self.damage, self.cells(doses), self.neutral, bounds.kl, KL_ROUNDS)
        for cell, nats in zip(cells, kl, strict=True):
            if not nats <= bounds.kl:
                of = f"{cell.columns()['method']}, layer {' and '.join(map(str, cell.layers))}"
                said = "%s: no dose was found whose KL is within %g nats: it is %.3g at dose %.3g"
                log.warning(said, of, bounds.kl, nats, cell.dose)
        return self._calibrated(cells, curves, kl, ratios)

    def at_damage(self, wanted: float) -> list[Calibrated]:
        """Every direction at the dose where its damage is `wanted`, in nats per token."""
        curves = self.damage.curves(self.directions, wanted, rounds=ROUNDS)
        cells = self.cells([rounded(max(curve.dose_at(wanted), _LEAST_DOSE)) for curve in curves])
        cells, kl = within_kl(self.damage, cells, self.neutral, math.inf, ROUNDS)
        return self._calibrated(cells, curves, kl, [None] * len(cells))

    @staticmethod
    def _calibrated(
        cells: Sequence[Cell], curves: Sequence[Curve], kl: Sequence[float], ratios: Sequence[float | None]
    ) -> list[Calibrated]:
        """Every direction at its dose, with what its curve says of that dose."""
        found = []
        for cell, curve, nats, ratio in zip(cells, curves, kl, ratios, strict=True):
            dose = abs(cell.dose or math.nan)
            found.append(Calibrated(cell, dose, curve.damage_at(dose), nats, ratio))
        return found

    def cells(self, doses: Sequence[float]) -> list[Cell]:
        """Every direction at its dose of `doses`, with its own sign."""
        return [cell.at(cell.sign * dose) for cell, dose in zip(self.directions, doses, strict=True)]

    def _log_ratios(self, cells: Sequence[Cell]) -> list[np.ndarray]:
        """Each cell's logarithms of the perplexity ratio, one a prompt."""
        everything, (model, concept) = [self.unsteered, *cells], (self.setup.model, self.setup.concept)
        texts = generate(model, self.store, concept, everything, self.spec, "validation", self.progress)
        self.generated += texts
        did = measure_texts(self.setup, self.store, texts.ids, "validation", ["perplexity"])
        values = cell_values(self.store, everything, did.ids)[1:]
        found = [np.array(list(v.get("perplexity_ratio", {}).values())) for v in values]
        return [ratios[np.isfinite(ratios)] for ratios in found]
