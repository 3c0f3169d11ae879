"""Methods: how contrastive activations become a direction. One function each, registered by name.

A method takes the activations of the positive and of the negative sides, (N, D) float32 each with row i of both from
pair i, and returns a direction (D,). Its norm is kept: one unit of alpha is one such vector.
"""

from collections.abc import Callable

import numpy as np

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
METHODS: dict[str, Method] = {}


def method(function: Method) -> Method:
    """Register a method under its function's name; specs and the CLI then know it."""
    METHODS[function.__name__] = function
    return function


@method
def mean_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean of positive minus negative, (N, D), (N, D) -> (D,). Rimsky et al. 2023 (CAA)."""
    direction: np.ndarray = (positive.astype(np.float64) - negative).mean(axis=0)
    return direction


def random_direction(like: np.ndarray, seed: int) -> np.ndarray:
    """A uniformly random direction with the norm of `like`, (D,) -> (D,): what any vector would do."""
    drawn = np.random.default_rng(seed).standard_normal(like.shape)
    return drawn * (np.linalg.norm(like) / np.linalg.norm(drawn))


def shuffled_direction(
    method: Method, positive: np.ndarray, negative: np.ndarray, like: np.ndarray, seed: int
) -> np.ndarray:
    """The method's direction with half the pairs' sides exchanged, at the norm of `like`: what chance would find."""
    swap = np.zeros(len(positive), bool)
    swap[: len(positive) // 2] = True
    swap = np.random.default_rng(seed).permutation(swap)[:, None]
    found = method(np.where(swap, negative, positive), np.where(swap, positive, negative))
    norm = np.linalg.norm(found)
    return found * (np.linalg.norm(like) / norm) if norm > 0 else random_direction(like, seed)
