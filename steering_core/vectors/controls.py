"""Controls: directions without meaning and of a vector's own norm, which show what any vector would do."""

import numpy as np

from steering_core.vectors.linear import as_long_as
from steering_core.vectors.methods import METHODS
from steering_core.vectors.shuffling import mixed_sides, n_moved

SAME = 0.99  # |cosine| from which a shuffled direction is the vector itself


def random_direction(like: np.ndarray, seed: int) -> np.ndarray:
    """A uniformly random direction with the norm of `like`, (D,) -> (D,)."""
    return as_long_as(like, np.random.default_rng(seed).standard_normal(like.shape))


def turned(directions: np.ndarray, seed: int) -> np.ndarray:
    """The directions under one random rotation, (k, D) -> (k, D): lengths, and angles between them, stay.

    The orthonormal columns are uniformly random once the triangle's diagonal is positive (Mezzadri 2007).
    """
    _, shape = np.linalg.qr(directions.T)  # (r, k): their coordinates in the space that they span
    drawn = np.random.default_rng(seed).standard_normal((directions.shape[1], len(shape)))
    columns, triangle = np.linalg.qr(drawn)
    return (columns * np.sign(np.diag(triangle)) @ shape).T


def shuffled_direction(
    method: str, positive: np.ndarray, negative: np.ndarray, like: np.ndarray, seed: int
) -> np.ndarray:
    """The method's direction from shuffled labels, at the norm of `like`: what it finds where there is no concept.

    Rows change sides until either side holds the same share of positive rows, and are paired anew: exchanging the sides
    of pairs alone would leave the principal components of their differences as they were. A random direction where the
    method does not see labels (`pca_pooled`), or a side has a single row.
    """
    found = METHODS[method](*_shuffled(positive, negative, np.random.default_rng(seed)))
    return random_direction(like, seed) if is_no_control(found, like) else as_long_as(like, found)


def is_no_control(found: np.ndarray, own: np.ndarray) -> bool:
    """Whether a method found nothing in changed labels, or, up to sign, the direction that it finds in its own ones."""
    norms = float(np.linalg.norm(found) * np.linalg.norm(own))
    return norms == 0 or abs(float(found @ own)) > SAME * norms


def _shuffled(positive: np.ndarray, negative: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two sides of the old sizes, each with the same share of positive rows, in random order, float64."""
    n, m = len(positive), len(negative)
    rows = np.concatenate([positive, negative]).astype(np.float64)
    one, other = mixed_sides(n, m, n_moved(n, m), random)
    return rows[one], rows[other]
