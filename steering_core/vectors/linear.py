"""The linear algebra of the methods: each works in the span of the rows, so it costs O(M² D) for M rows of width D."""

import numpy as np

RANK_TOLERANCE = 1e-7  # singular values below this share of the whole are rounding
MIN_SHRINKAGE = 1e-6  # keeps a covariance invertible whose rows leave some dimension constant


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
    """Weights of a logistic regression that tells two sets of rows apart, L2 penalty of C = 1, (N, D) twice -> (D,).

    They lie in the span of the rows, so it is fitted there, in at most as many dimensions as there are rows.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import, for two methods alone

    rows = np.concatenate([positive, negative])
    basis, upper = np.linalg.qr(rows.T)  # (D, r), (r, M)
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    probe = LogisticRegression(fit_intercept=intercept, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    weights: np.ndarray = basis @ probe.fit(upper.T, labels).coef_[0]
    return weights


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
