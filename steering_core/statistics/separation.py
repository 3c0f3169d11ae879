"""Separation: how well a direction tells the two sides of pairs apart that it was not made from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with the central 95 % of what resampling gave; `n` is what it was estimated from."""

    value: float
    low: float | None
    high: float | None
    n: int


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive projection exceeds a negative one, (N,), (M,) -> 0 .. 1; ties count half."""
    return float(_wins(positive, negative).mean())


def roc(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ROC curve of projections (N,), (M,): false alarm rates, hit rates and falling thresholds, (K,) each.

    A projection of at least the threshold counts as positive. The curve begins at infinity, where nothing does.
    """
    values = np.unique(np.concatenate([positive, negative]))[::-1]
    thresholds = np.concatenate([[np.inf], values])
    hits = (positive >= thresholds[:, None]).mean(axis=1)
    false_alarms = (negative >= thresholds[:, None]).mean(axis=1)
    return false_alarms, hits, thresholds


def d_prime(positive: np.ndarray, negative: np.ndarray) -> float:
    """Distance of the two means in units of the pooled standard deviation, (N,), (M,); nan where nothing varies."""
    if min(len(positive), len(negative)) < 2:
        return float("nan")
    spread = float(np.sqrt((positive.var(ddof=1) + negative.var(ddof=1)) / 2))
    return float(positive.mean() - negative.mean()) / spread if spread > 0 else float("nan")


def separation(
    positive: np.ndarray, negative: np.ndarray, resamples: int, seed: int, *, paired: bool = True
) -> dict[str, Estimate]:
    """`auc` and `d_prime` of projections (N,), (M,), with intervals from resampled pairs, or rows of either side.

    `n` is the size of the smaller side; below 2 the intervals are None. `d_prime` is left out where it is not defined.
    """
    n, random = min(len(positive), len(negative)), np.random.default_rng(seed)
    counts = _counts(random, len(positive), resamples)  # (R, N)
    others = counts if paired else _counts(random, len(negative), resamples)  # (R, M)
    wins = np.einsum("ri,ij,rj->r", counts, _wins(positive, negative), others, optimize=True)
    drawn = {
        "auc": wins / (len(positive) * len(negative)),
        "d_prime": _weighted_d_prime((counts, positive), (others, negative)),
    }
    found = {"auc": auc(positive, negative), "d_prime": d_prime(positive, negative)}
    return {
        metric: Estimate(value, *interval(drawn[metric] if n > 1 else np.zeros(0)), n)
        for metric, value in found.items()
        if np.isfinite(value)
    }


def _counts(random: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """How often each of n rows is drawn in each resample, (R, n)."""
    return random.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """The central 95 % of the finite draws, or None twice where there is none."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None, None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _wins(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """1 where positive i exceeds negative j, a half where they tie, (N,), (M,) -> (N, M)."""
    return (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)


def _weighted_d_prime(*sides: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """d_prime of each resample, from counts (R, N) and values (N,) of either side -> (R,); nan where nothing varies."""
    means, variances = [], []
    for counts, values in sides:
        n = counts.shape[1]
        mean = counts @ values / n
        means.append(mean)
        variances.append((counts @ values**2 - n * mean**2) / max(n - 1, 1))
    spread = np.sqrt(np.maximum(sum(variances), 0) / 2)
    scale = max(float(np.abs(values).max()) for _, values in sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 1e-6 * scale, (means[0] - means[1]) / spread, np.nan)
