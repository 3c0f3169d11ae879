"""The linear algebra of the methods: each works in the span of the rows, so it costs O(M² D) for M rows of width D."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from threadpoolctl import threadpool_limits

MAX_STEPS = 100  # of Newton's method, which takes about ten
LOSS_TOLERANCE = 1e-12  # a step that lowers the loss by no more than this share of it is the last
RANK_TOLERANCE = 1e-7  # singular values below this share of the whole are rounding
MIN_SHRINKAGE = 1e-6  # keeps a covariance invertible whose rows leave some dimension constant


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have BLAS compute on one thread: on matrices of a few hundred rows, threads cost more than they bring."""
    with threadpool_limits(1):
        yield


def as_long_as(like: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The direction at the length of `like`; zero where the direction is zero."""
    norm = np.linalg.norm(direction)
    return direction * (np.linalg.norm(like) / norm) if norm > 0 else direction


def component_along(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The part of `vector` along `axis`, (D,), (D,) -> (D,); zero for a zero axis."""
    square = float(axis @ axis)
    return axis * (float(vector @ axis) / square) if square > 0 else np.zeros_like(vector)


def top_component(rows: np.ndarray) -> np.ndarray:
    """Unit direction of the largest sum of squares, (M, D) -> (D,), of either sign; zero where all rows are zero."""
    (component,) = top_components(rows, 1)
    return component


def top_components(rows: np.ndarray, k: int) -> np.ndarray:
    """The k unit directions of the largest sums of squares, (M, D) -> (k, D), orthogonal, of either sign.

    Zero rows stand for directions that the rows do not have.
    """
    m, width = rows.shape
    if m <= width:
        _, left = np.linalg.eigh(rows @ rows.T)
        found = left[:, ::-1][:, :k].T @ rows  # (≤k, D), each as long as its singular value
    else:
        _, right = np.linalg.eigh(rows.T @ rows)
        axes = right[:, ::-1][:, :k].T
        found = axes * np.linalg.norm(rows @ axes.T, axis=0)[:, None]
    lengths = np.linalg.norm(found, axis=1)
    real = np.flatnonzero(lengths > RANK_TOLERANCE * np.linalg.norm(rows))
    components = np.zeros((k, width))
    components[real] = found[real] / lengths[real, None]
    return components


def logistic_weights(positive: np.ndarray, negative: np.ndarray, *, intercept: bool) -> np.ndarray:
    """The weights alone of `logistic_regression`, (N, D) twice -> (D,)."""
    return logistic_regression(positive, negative, intercept=intercept)[0]


def logistic_regression(positive: np.ndarray, negative: np.ndarray, *, intercept: bool) -> tuple[np.ndarray, float]:
    """Weights (D,) and intercept of a logistic regression that tells two sets of rows (N, D) apart, penalty C = 1.

    The weights are a sum of the rows, so Newton's method looks for one coefficient a row (Rasmussen and Williams 2006,
    3.4), and takes shorter steps where a whole one would overshoot. The same optimum as scikit-learn's, to 1e-6.
    """
    rows = np.concatenate([positive, negative])  # (M, D)
    labels = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    gram, m = rows @ rows.T, len(rows)
    system = np.zeros((m + intercept, m + intercept))
    system[:m, :m] = gram
    if intercept:
        system[m, :m] = system[:m, m] = 1.0
    found, loss = np.zeros(m + intercept), np.inf  # coefficients, and the intercept after them
    for _ in range(MAX_STEPS):
        scores = system[:m] @ found
        likely = 1 / (1 + np.exp(-scores))
        weight = np.maximum(likely * (1 - likely), 1e-12)  # never 0, since it divides
        ridged = system.copy()
        ridged[range(m), range(m)] += 1 / weight
        target = np.concatenate([scores + (labels - likely) / weight, np.zeros(int(intercept))])
        step = np.linalg.solve(ridged, target) - found
        previous, (found, loss) = loss, _shortened(found, step, lambda x: _logistic_loss(system[:m], labels, x))
        if previous - loss <= LOSS_TOLERANCE * loss:
            break
    return rows.T @ found[:m], float(found[m]) if intercept else 0.0


def _shortened(start: np.ndarray, step: np.ndarray, loss: Callable[[np.ndarray], float]) -> tuple[np.ndarray, float]:
    """The end of the step, halved until the loss is no greater than where it starts, and its loss."""
    before = loss(start)
    for share in 0.5 ** np.arange(30):  # down to a billionth of the step
        if (after := loss(start + share * step)) <= before:
            return start + share * step, after
    return start, before


def _logistic_loss(scorer: np.ndarray, labels: np.ndarray, coefficients: np.ndarray) -> float:
    scores = scorer @ coefficients
    m = len(labels)
    penalty = coefficients[:m] @ (scorer[:, :m] @ coefficients[:m]) / 2
    return float(penalty + np.logaddexp(0, np.where(labels == 1, -scores, scores)).sum())


def whitened(vector: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """The inverse of the shrunk covariance of centred rows (M, D), applied to a vector (D,) -> (D,).

    The vector itself where no row deviates.
    """
    m, width = deviations.shape
    total = float((deviations**2).sum())
    if total == 0:
        return vector
    shrinkage = max(ledoit_wolf(deviations), MIN_SHRINKAGE)
    ridge = shrinkage * total / (m * width)  # on the diagonal
    share = (1 - shrinkage) / m  # of the scatter
    if share == 0:
        return vector / ridge
    if m > width:
        return np.linalg.solve(share * deviations.T @ deviations + ridge * np.eye(width), vector)
    inner = np.linalg.solve(deviations @ deviations.T + (ridge / share) * np.eye(m), deviations @ vector)  # Woodbury
    return (vector - deviations.T @ inner) / ridge


def ledoit_wolf(deviations: np.ndarray) -> float:
    """The share of the identity in the best shrunk covariance of centred rows (M, D). Ledoit and Wolf 2004."""
    m, width = deviations.shape
    gram = deviations @ deviations.T if m <= width else deviations.T @ deviations
    squares = (deviations**2).sum(axis=1)  # (M,)
    mean_variance = squares.sum() / (m * width)
    scatter = float((gram**2).sum()) / m**2  # squared Frobenius norm of the covariance
    distance = scatter / width - mean_variance**2
    error = (float((squares**2).sum()) / m - scatter) / (m * width)
    return float(min(error, distance) / distance) if distance > 0 else 1.0


def ridged(vector: np.ndarray, rows: np.ndarray, ridge: float) -> np.ndarray:
    """The inverse of the rows' mean square, with `ridge` times its mean on the diagonal, applied to a vector.

    (D,), (M, D) -> (D,); the vector itself where all rows are zero.
    """
    m, width = rows.shape
    diagonal = ridge * float((rows**2).sum()) / (m * width)
    if diagonal == 0:
        return vector
    inner = np.linalg.solve(rows @ rows.T + m * diagonal * np.eye(m), rows @ vector)  # Woodbury
    return (vector - rows.T @ inner) / diagonal
