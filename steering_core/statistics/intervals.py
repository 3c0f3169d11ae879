"""Statistics over subjects (items, prompts, answers, texts): Student's intervals and tests, ranks among null values."""

from collections.abc import Sequence

import numpy as np
import scipy  # its subpackages are loaded when they are first used: `special` at once, `stats` takes a second

LEVEL = 0.95


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of `values` (N,) and Student's t interval at 95 %. Student 1908.

    With 8 to 24 values its coverage is 94 to 96 %, a percentile bootstrap's 88 to 92 % (docs/evaluation.md). The ends
    are nan for one value, and all three numbers for none.
    """
    n = len(values)
    if n < 2:
        return float(values.mean()) if n else float("nan"), float("nan"), float("nan")
    mean, error = float(values.mean()), _error_of_mean(values)
    reach = _student_quantile((1 + LEVEL) / 2, n - 1) * error
    return mean, mean - reach, mean + reach


def _error_of_mean(values: np.ndarray) -> float:
    """Standard error of the mean of `values` (N,)."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _student_quantile(level: float, freedom: int) -> float:
    """Quantile of Student's t with `freedom` degrees of freedom."""
    return float(scipy.special.stdtrit(freedom, level))


def _student_above(t: float, freedom: int) -> float:
    """Probability that Student's t with `freedom` degrees of freedom lies above `t`."""
    return float(scipy.special.stdtr(freedom, -t))


def standard_error(mean: float, high: float, n: int) -> float:
    """The standard error from which `mean_interval` made the upper end of `n` values' interval."""
    return float((high - mean) / _student_quantile((1 + LEVEL) / 2, n - 1))


def lower_end(values: np.ndarray) -> float:
    """Lower end of Student's one-sided interval at 95 % of the mean of `values` (N,); -inf for fewer than two."""
    n = len(values)
    if n < 2:
        return float("-inf")
    return float(values.mean() - _student_quantile(LEVEL, n - 1) * _error_of_mean(values))


def above_zero_p(values: np.ndarray) -> float:
    """One-sided p-value of Student's t test that the mean of `values` (N,) lies above 0; nan for fewer than two."""
    if len(values) < 2:
        return float("nan")
    spread = float(np.ptp(values))
    if spread == 0:
        return float(values[0] <= 0)
    return _student_above(float(values.mean()) / _error_of_mean(values), len(values) - 1)


def rank_p(value: float, nulls: Sequence[float]) -> float:
    """One-sided p-value of `value` by its rank among null values, which are drawn alike but for what is tested.

    (1 + how many of `nulls` reach it) / (1 + N), so that it is never 0 (Phipson and Smyth 2010). A null value that is
    not finite counts as reaching it.
    """
    reaching = sum(not null < value for null in nulls)
    return (1 + reaching) / (1 + len(nulls))


def prediction_p(value: float, nulls: Sequence[float], independent: int) -> float:
    """One-sided p-value of `value` under the distribution of `nulls`, where they are too few to rank.

    t = value / sqrt(mean of nulls squared), by Student's t with `independent` degrees of freedom. The null values
    must be roughly normal with mean 0, as they are where each direction is as likely as its opposite. A draw and its
    opposite count once in `independent`. 1 where there are no null values, or one is not finite.
    """
    if not nulls or not np.isfinite(nulls).all():
        return 1.0
    spread = float(np.sqrt(np.mean(np.square(nulls))))
    return _student_above(value / spread, independent) if spread else float(value <= 0)


def unlike_p(value: float, others: Sequence[float]) -> float:
    """Two-sided p-value that `value` is one more draw from the normal distribution of `others` (N,).

    t = |value - mean| / (s sqrt(1 + 1 / N)), by Student's t with N - 1 degrees of freedom, where s is the standard
    deviation of `others`. 1 for fewer than two others, or a number that is not finite.
    """
    n = len(others)
    if n < 2 or not np.isfinite([value, *others]).all():
        return 1.0
    distance, spread = abs(value - float(np.mean(others))), float(np.std(others, ddof=1))
    if spread == 0:
        return float(distance == 0)
    return 2 * _student_above(distance / (spread * np.sqrt(1 + 1 / n)), n - 1)


def not_zero_p(values: Sequence[float]) -> float:
    """Two-sided p-value of Student's t test that the mean of `values` is not 0; 1 for fewer than two values."""
    if len(values) < 2 or not np.isfinite(values).all():
        return 1.0
    if np.ptp(values) == 0:
        return float(values[0] == 0)
    t = float(np.mean(values)) / _error_of_mean(np.asarray(values))
    return 2 * _student_above(abs(t), len(values) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values, in their order, corrected for their number of comparisons. Holm 1979.

    One that is nan stays so, and is no comparison: nothing was tested there.
    """
    order = sorted((i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i])
    corrected, least, m = [float("nan")] * len(p_values), 0.0, len(order)
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (m - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def paired_change(lost: int, gained: int, n: int) -> tuple[float, float, float]:
    """Change of a proportion over the same `n` subjects, and its interval at 95 %: gained minus lost, over `n`.

    `lost` subjects were right before and are wrong now, `gained` the other way round. The interval is Wald's with one
    subject added to those lost and one to those gained, so that it has a width even where nothing changed (Bonett and
    Price 2012; recommended by Fagerland, Lydersen and Laake 2014). nan for no subject.
    """
    if not n:
        return float("nan"), float("nan"), float("nan")
    down, up = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    middle, spread = up - down, np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    reach = float(scipy.special.ndtri((1 + LEVEL) / 2) * spread)
    return (gained - lost) / n, max(-1.0, middle - reach), min(1.0, middle + reach)


def paired_change_p(lost: int, gained: int) -> float:
    """Two-sided p-value that as many subjects are lost as gained: McNemar's with mid-p (Fagerland et al. 2013).

    1 where no subject changed.
    """
    changed, fewer = lost + gained, min(lost, gained)
    if lost == gained:
        return 1.0
    coin = scipy.stats.binom(changed, 0.5)
    return float(min(1.0, 2 * coin.cdf(fewer) - coin.pmf(fewer)))
