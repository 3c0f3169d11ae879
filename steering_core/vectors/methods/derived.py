"""Methods that read activations alone. What has no length of its own gets the mean difference's."""

import numpy as np

from steering_core.vectors.linear import as_long_as, component_along, logistic_weights, top_component, whitened
from steering_core.vectors.methods.registry import method


@method(unpaired=True)
def mean_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean of positive minus mean of negative, (N, D), (M, D) -> (D,). Rimsky et al. 2023 (CAA)."""
    direction: np.ndarray = positive.mean(axis=0) - negative.mean(axis=0)
    return direction


@method
def single_pair(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Positive minus negative of the first pair alone, (N, D), (N, D) -> (D,). Turner et al. 2023 (ActAdd)."""
    difference: np.ndarray = positive[0] - negative[0]
    return difference


@method(unpaired=True)
def mean_difference_orthogonal(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The mean difference without its component along the mean of both sides' means, (N, D), (M, D) -> (D,).

    That mean is what every prompt shares, and in many models it is most of the stream. To take out another concept's
    direction instead, see `algebra.orthogonalised`.
    """
    difference = mean_difference(positive, negative)
    return difference - component_along(difference, positive.mean(axis=0) + negative.mean(axis=0))


@method
def pca_uncentred(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Direction of the largest mean square of the pairs' differences, (N, D), (N, D) -> (D,).

    The first component of the differences about 0, not about their mean: what steering-vectors calls `pca`, and repeng
    `pca_center`.
    """
    return _oriented(top_component(positive - negative), positive, negative)


@method
def pca_centred(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Direction in which the pairs' differences vary most about their mean, (N, D), (N, D) -> (D,).

    It needs two pairs, and it is orthogonal to the mean difference where all pairs differ by the same amount.
    """
    differences = positive - negative
    return _oriented(top_component(differences - differences.mean(axis=0)), positive, negative)


@method(unpaired=True)
def pca_pooled(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """First principal component of both sides' activations together, (N, D), (M, D) -> (D,).

    Right where the concept is what the texts differ in most. Zou et al. 2023 (RepE, LAT).
    """
    rows = np.concatenate([positive, negative])
    return _oriented(top_component(rows - rows.mean(axis=0)), positive, negative)


@method(unpaired=True)
def logistic(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Weights of a logistic probe that tells the two sides apart, (N, D), (M, D) -> (D,).

    With an intercept and an L2 penalty of C = 1, scikit-learn's defaults.
    """
    weights = logistic_weights(positive, negative, intercept=True)
    return _oriented(weights, positive, negative)


@method
def logistic_paired(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Weights of a logistic probe on each pair's deviations from its own mean, (N, D), (N, D) -> (D,).

    What a pair's two sides share (its topic) cannot disturb it. steering-vectors' `logistic`.
    """
    half = (positive - negative) / 2
    return _oriented(logistic_weights(half, -half, intercept=False), positive, negative)


@method(unpaired=True)
def lda(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The mean difference, whitened by the covariance within the sides, (N, D), (M, D) -> (D,).

    Fisher's linear discriminant; the covariance is shrunk towards a multiple of the identity by as much as Ledoit and
    Wolf 2004 find best, so fewer samples than dimensions will do. With one pair it is the mean difference.
    """
    within = np.concatenate([positive - positive.mean(axis=0), negative - negative.mean(axis=0)])
    return _oriented(whitened(mean_difference(positive, negative), within), positive, negative)


def _oriented(direction: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """`direction` with the sign and the length of the mean difference; zero where either is zero."""
    difference = mean_difference(positive, negative)
    sign = -1.0 if direction @ difference < 0 else 1.0
    return sign * as_long_as(difference, direction)
