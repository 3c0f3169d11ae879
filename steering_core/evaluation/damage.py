"""Damage within bounds: measured on neutral answers, and the perplexity ratio that it predicts.

The logarithm of the perplexity ratio of steered texts grows in proportion to damage. The factor, the *slope*, differs
from direction to direction. It is estimated from the direction's sampled texts and the usual slope, each weighted by
its precision (empirical Bayes, Efron and Morris 1973).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from steering_core.candidates.answers import NeutralAnswer
from steering_core.candidates.cell import Cell
from steering_core.concepts import Split
from steering_core.evaluation.bounds import (
    LEAST_SLOPE,
    OTHER_PROMPTS,
    SLOPE_SPREAD,
    SPREAD_WEIGHT,
    TEXT_SPREAD,
    USUAL_SLOPE,
)
from steering_core.evaluation.curve import Curve, curves_to, rounded
from steering_core.foundation.counting import Done
from steering_core.foundation.progress import Progress, silent
from steering_core.scores.measure import measure_answers, measure_neutral
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import cell_values, mean_of
from steering_core.statistics.intervals import LEVEL
from steering_core.store import Store

FEW_ANSWERS = 8  # answers on which directions are screened


@dataclass
class Damage:
    """Measures the damage of directions at doses, and keeps every measurement in the store."""

    setup: Setup
    store: Store
    answers: Sequence[NeutralAnswer]
    split: Split = "validation"
    progress: Progress = silent
    measured: Done = field(default_factory=Done)

    def of(self, cells: Sequence[Cell], n: int | None = None) -> np.ndarray:
        """Each cell's damage on each of the first `n` answers (default all), (V, n); nan where it is not finite."""
        answers = self.answers[:n]
        if not answers:
            return np.full((len(cells), 1), np.nan)
        did = measure_answers(self.setup, self.store, cells, answers, self.split, ["damage"], self.progress)
        self.measured += did
        values = cell_values(self.store, cells, did.ids)
        found = [[v.get("damage", {}).get(a.answer_id, np.nan) for a in answers] for v in values]
        return np.array(found, np.float64).reshape(len(cells), len(answers))

    def curves(self, directions: Sequence[Cell], wanted: float, n: int | None = None, rounds: int = 3) -> list[Curve]:
        """Every direction's damage around the dose where it is `wanted`, searched from the cells' own doses."""

        def damages(doses: Sequence[float]) -> np.ndarray:
            """Each direction's mean damage at its dose, in nats per token."""
            cells = [cell.at(cell.sign * dose) for cell, dose in zip(directions, doses, strict=True)]
            return self.of(cells, n).mean(axis=1)

        return curves_to(damages, [abs(cell.dose or 1.0) for cell in directions], wanted, rounds)


def within_kl(
    damage: Damage, cells: Sequence[Cell], neutral: Sequence[str], allowed: float, rounds: int
) -> tuple[list[Cell], list[float]]:
    """The cells, at lower doses where they move neutral next tokens by more than `allowed` nats, and their KL there.

    KL grows with the square of the dose; at most `rounds` lower doses are tried, so that it may still be beyond.
    """
    found = list(cells)
    kl = _kl(damage, found, neutral)
    for _ in range(rounds):
        if all(nats <= allowed for nats in kl):
            break
        found = [_quieter(cell, nats, allowed) for cell, nats in zip(found, kl, strict=True)]
        kl = _kl(damage, found, neutral)
    return found, kl


def _kl(damage: Damage, cells: Sequence[Cell], neutral: Sequence[str]) -> list[float]:
    """Mean KL of every cell on neutral next tokens, in nats."""
    did = measure_neutral(damage.setup, damage.store, cells, neutral, damage.split, ["kl"])
    damage.measured += did
    return [mean_of(values, "kl") for values in cell_values(damage.store, cells, did.ids)]


def _quieter(cell: Cell, kl: float, allowed: float) -> Cell:
    """The cell at the dose where its KL is a little below what is allowed."""
    if kl <= allowed or not cell.dose:
        return cell
    share = math.sqrt(0.9 * allowed / kl) if math.isfinite(kl) else 0.5
    return cell.at(cell.sign * rounded(abs(cell.dose) * share))


@dataclass(frozen=True)
class Uncertain:
    """A number and its standard error."""

    value: float
    error: float


USUAL = Uncertain(USUAL_SLOPE, SLOPE_SPREAD)


def slopes(measured: Sequence[tuple[float, np.ndarray]]) -> list[Uncertain]:
    """Each cell's slope from its damage, in nats per token (nan: not measured), and its prompts' log ratios (P,).

    The mean slope is estimated from all cells, beginning with the usual slope; a cell's deviation from it is estimated
    from the cell's own texts. Each estimate counts by its precision.
    """
    own = [_slope(damage, ratios) for damage, ratios in measured]
    spread = [Uncertain(slope.value, math.hypot(slope.error, SLOPE_SPREAD)) for slope in own if slope]
    common = Uncertain(weighted([USUAL, *spread]).value, SLOPE_SPREAD)
    return [weighted([common, *([slope] if slope else [])]) for slope in own]


def expected_ratio(damage: float, slope: Uncertain, texts: Uncertain | None) -> float:
    """exp of the mean of two estimates of the log perplexity ratio: slope * damage, and that from `texts`.

    They are weighted by their precision: sixteen texts of 40 tokens give the logarithm with a standard error of 0.12.
    """
    foreseen = Uncertain(slope.value * damage, math.hypot(slope.error * damage, OTHER_PROMPTS))
    return math.exp(weighted([foreseen, *([texts] if texts else [])]).value)


def _slope(damage: float, ratios: np.ndarray) -> Uncertain | None:
    """Log ratio over damage; None for fewer than two prompts, or no damage.

    The variance of log ratios is pooled with the usual one, so that a few texts that agree by chance do not count as
    a slope that is surely known.
    """
    finite = ratios[np.isfinite(ratios)]
    if len(finite) < 2 or not damage > 0:
        return None
    squares = float(((finite - finite.mean()) ** 2).sum())
    return Uncertain(float(finite.mean()) / damage, _pooled_error(squares, len(finite)) / damage)


def log_ratio(mean: float, error: float, n: int) -> Uncertain:
    """The log perplexity ratio of `n` prompts' texts from its mean and their own standard error.

    The variance is pooled with the usual one, as a slope's is: a few texts that agree by chance are not surely known.
    """
    return Uncertain(mean, _pooled_error(error**2 * n * (n - 1), n))


def _pooled_error(squares: float, n: int) -> float:
    """Standard error of a mean log ratio of `n` prompts, whose squared deviations add up to `squares`."""
    return math.sqrt((squares + SPREAD_WEIGHT * TEXT_SPREAD**2) / (n - 1 + SPREAD_WEIGHT)) / math.sqrt(n)


def weighted(estimates: Sequence[Uncertain]) -> Uncertain:
    """The mean of estimates, each weighted by its precision, and its standard error."""
    weights = [1 / max(one.error, 1e-3) ** 2 for one in estimates]
    mean = sum(w * one.value for w, one in zip(weights, estimates, strict=True)) / sum(weights)
    return Uncertain(mean, sum(weights) ** -0.5)


def dose_interval(
    doses: Sequence[float], damages: np.ndarray, ratio: float, slope: Uncertain, draws: int, seed: int
) -> tuple[float, float]:
    """95 % interval of the dose at which texts have the perplexity `ratio`: a bootstrap over answers and slopes.

    `damages` (doses, answers) are what was measured. Slopes are drawn from a normal distribution around the estimate,
    or `LEAST_SLOPE` where that is more. None is below a third of it, so that no dose is infinite.
    """
    random, estimate = np.random.default_rng(seed), max(slope.value, LEAST_SLOPE)
    drawn = []
    for _ in range(draws):
        means = damages[:, random.integers(0, damages.shape[1], damages.shape[1])].mean(axis=1)
        curve = Curve(tuple(doses), tuple(means.tolist()))
        its_slope = max(random.normal(estimate, slope.error), estimate / 3)
        drawn.append(curve.dose_at(math.log(ratio) / its_slope))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
