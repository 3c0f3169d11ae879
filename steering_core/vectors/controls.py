"""Controls: directions that stand beside a vector at its own norm, and show what one that means nothing would do."""

import numpy as np

from steering_core.vectors.methods import METHODS
from steering_core.vectors.shuffling import mixed_sides, n_moved

SAME = 0.99  # |cosine| from which a shuffled direction is the vector itself


def random_direction(like: np.ndarray, seed: int) -> np.ndarray:
    """A uniformly random direction with the norm of `like`, (D,) -> (D,): what any vector would do."""
    drawn = np.random.default_rng(seed).standard_normal(like.shape)
    return drawn * (np.linalg.norm(like) / np.linalg.norm(drawn))


def turned(directions: np.ndarray, seed: int) -> np.ndarray:
    """The directions, turned together at random, (k, D) -> (k, D): lengths, and angles between them, stay."""
    _, shape = np.linalg.qr(directions.T)  # (r, k): their coordinates in the space that they span
    drawn = np.random.default_rng(seed).standard_normal((directions.shape[1], len(shape)))
    return (np.linalg.qr(drawn)[0] @ shape).T


def shuffled_direction(
    method: str, positive: np.ndarray, negative: np.ndarray, like: np.ndarray, seed: int
) -> np.ndarray:
    """The method's direction from shuffled labels, at the norm of `like`: what it finds where there is no concept.

    Rows change sides until both have the same share of either (half of each, where there are as many), and meet in new
    pairs: exchanging sides within pairs would leave the components of their differences as they were. A random
    direction where labels do not matter to the method (`pca_pooled`), or a side has one row alone.
    """
    found = METHODS[method](*_shuffled(positive, negative, np.random.default_rng(seed)))
    norms = np.linalg.norm(found) * np.linalg.norm(like)
    if norms == 0 or abs(found @ like) > SAME * norms:
        return random_direction(like, seed)
    return found * (np.linalg.norm(like) / np.linalg.norm(found))


def _shuffled(positive: np.ndarray, negative: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two sides as long as they were, each with the same share of positive rows, in random order, float64."""
    n, m = len(positive), len(negative)
    rows = np.concatenate([positive, negative]).astype(np.float64)
    one, other = mixed_sides(n, m, n_moved(n, m), random)
    return rows[one], rows[other]
