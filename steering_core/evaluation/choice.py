"""Choice: one candidate of a shortlist, at the dose that its damage and its texts allow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering_core.candidates.cell import Cell, Trial, mirrored
from steering_core.candidates.grid import independent
from steering_core.evaluation.bounds import TOLERATED, Bounds, allowed_damage
from steering_core.evaluation.curve import Curve, rounded
from steering_core.evaluation.damage import USUAL, Damage, Uncertain, dose_interval, slopes
from steering_core.evaluation.search import Shortlist, rivals_of
from steering_core.scores.summary import ODD, ValuesByScore, cell_values, mean_of
from steering_core.spec import Spec
from steering_core.statistics.intervals import lower_end, mean_interval
from steering_core.statistics.metric_names import JUDGED
from steering_core.vectors.vector import Vector


@dataclass(frozen=True)
class Rated:
    """A candidate at its dose: its effects by item, positive in the direction of its sign, and its predicted damage.

    `excess` is its damage in units of what is allowed, the worst of its measures; inf where something diverged. `kl` is
    its predicted KL on neutral next tokens, in nats; nan where that was not measured.
    """

    cell: Cell
    slope: Uncertain
    effects: Mapping[str, float]
    excess: float
    kl: float = math.nan

    def quiet_dose(self, kl: float) -> float:
        """The dose that is predicted to have that KL, which grows with the square of the dose; inf without a KL."""
        return abs(self.cell.dose or 0.0) * math.sqrt(kl / self.kl) if self.kl > 0 else math.inf

    @property
    def lower_end(self) -> float:
        """Lower end of the effect's one-sided 95 % interval. Candidates rank by it: the best mean of many is luck."""
        return lower_end(np.array(list(self.effects.values())))


@dataclass(frozen=True)
class Choice:
    """The chosen candidate's trial on test, its slope, and the candidates that are as good on validation (`ties`).

    `safe_dose` is the dose that is predicted to be at the bound; None without a dose or damage. Its 95 % interval is
    known where the bound is that of the perplexity ratio, and None where KL's is met first.
    """

    trial: Trial
    slope: Uncertain = USUAL
    safe_dose: float | None = None
    dose_low: float | None = None
    dose_high: float | None = None
    ties: tuple[Cell, ...] = ()


def rated(
    cells: Sequence[Cell], values: Sequence[ValuesByScore], bounds: Bounds, curves: Mapping[str, Curve], adjust: bool
) -> list[Rated]:
    """Every candidate at the dose that its own texts allow.

    `values` are the cells' on validation. With `adjust` a dose is lowered where its predicted perplexity ratio comes
    near the bound, unless it is as the spec wrote it. No dose grows: a few texts that happen to be plain would move it
    by half (docs/log.md).
    """
    damages = [mean_of(v, "damage") for v in values]
    texts = [np.array(list(v.get("perplexity_ratio", {}).values())) for v in values]
    estimated = slopes(list(zip(damages, texts, strict=True)))
    found = []
    for cell, mine, slope, damage, ratios in zip(cells, values, estimated, damages, texts, strict=True):
        share = bounds.share(_predicted(damage, slope.value, ratios))
        scale, curve = 1.0, curves.get(cell.direction)
        if adjust and cell.dose and curve and share > TOLERATED and not cell.as_written:
            dose = rounded(curve.dose_at(bounds.wanted_damage(slope.value)))
            scale = min(dose / abs(cell.dose), 1.0)
            cell = cell.at(cell.sign * scale * abs(cell.dose))
            share = bounds.share(slope.value * curve.damage_at(abs(cell.dose or dose)))
        effects = mine.get(ODD) or mine.get("effect", {})
        kl = mean_of(mine, "kl") * scale**2
        excess = math.inf if _diverged(mine) else max(share, 0.0 if math.isnan(kl) else kl / bounds.kl)
        found.append(Rated(cell, slope, {k: cell.sign * scale * v for k, v in effects.items()}, excess, kl))
    return found


def choose(candidates: Sequence[Rated]) -> tuple[Rated, list[Rated]]:
    """The chosen candidate, and the others that are as good; where none is within the bounds, the least damaging alone.

    The best has the greatest lower end of its effect's interval (`Rated.lower_end`). A candidate is as good where the
    paired difference to the best is not surely above 0; of all that are as good the one of fewest vectors is chosen,
    where those of one joint fit count as one.
    """
    within = [one for one in candidates if one.excess <= 1 and one.effects]
    if not within:
        return min(candidates, key=lambda one: one.excess), []
    best = max(within, key=lambda one: one.lower_end)
    ties = [one for one in within if one is best or not _surely_better(best, one)]
    chosen = min(ties, key=lambda one: (independent(one.cell.vectors), -one.lower_end))
    return chosen, [one for one in ties if one is not chosen]


def chosen_of(found: Shortlist, damage: Damage, bounds: Bounds, spec: Spec, vectors: Sequence[Vector]) -> Choice:
    """The choice from a search whose texts are measured: a candidate, its rivals on test, its safe dose, its ties."""
    unsteered, *cells = found.cells
    tried = [cell.key for cell in found.tried]
    values = dict(zip(tried, cell_values(damage.store, found.tried, found.measured.ids), strict=True))
    of_cells = [values[cell.key] for cell in cells]
    adjust = spec.generations.shortlist != "all"
    best, ties = choose(rated(cells, of_cells, bounds, found.curves, adjust))
    curve = found.curves.get(best.cell.direction)
    images = mirrored(best.cell)
    rivals = rivals_of(best.cell, vectors, spec.vectors.controls, damage if curve else None)
    trial = Trial(best.cell, [unsteered, best.cell, *images, *rivals])
    choice = Choice(trial, best.slope, ties=tuple(one.cell for one in ties))
    if curve is None or not best.cell.dose:
        return choice
    safe = rounded(curve.safe_at(allowed_damage(bounds.perplexity_ratio, best.slope.value)))
    if (quiet := best.quiet_dose(bounds.kl)) < safe:
        return replace(choice, safe_dose=rounded(quiet))
    at = [best.cell.at(best.cell.sign * dose) for dose in curve.doses]
    low, high = dose_interval(
        curve.doses, damage.of(at), bounds.perplexity_ratio, best.slope, spec.scores.bootstrap, spec.scores.seed
    )
    return replace(choice, safe_dose=safe, dose_low=min(low, safe), dose_high=high)


def _surely_better(best: Rated, other: Rated) -> bool:
    shared = sorted(set(best.effects) & set(other.effects))
    return lower_end(np.array([best.effects[i] - other.effects[i] for i in shared])) > 0


def _predicted(damage: float, slope: float, texts: np.ndarray) -> float:
    """The predicted logarithm of the perplexity ratio: slope * damage, else the upper end of the texts' interval."""
    if not math.isnan(damage):
        return slope * damage
    if len(texts) == 0:
        return 0.0
    upper = mean_interval(texts)[2]
    return upper if math.isfinite(upper) else math.inf


def _diverged(values: ValuesByScore) -> bool:
    """Whether anything but a judge's opinion is missing: a reply without a rating is the judge's fault."""
    measured = [scored for score, scored in values.items() if score not in JUDGED]
    return any(not math.isfinite(value) for scored in measured for value in scored.values())
