"""Meaning: the tokens that a direction promotes, and the stored prompts that lie furthest along it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.models import Model
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors.vector import Vector

YARDSTICKS = 64  # random directions that say how much any direction moves each token


@dataclass(frozen=True)
class PromotedTokens:
    """The tokens that a direction promotes and suppresses most, each with its score, strongest first.

    A score is the token's logit in units of its standard deviation under random directions, less the mean over all
    tokens: rare tokens have unembeddings so long that they would lead every list otherwise.
    """

    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]


def vector_logits(model: Model, directions: np.ndarray) -> np.ndarray:
    """What the final norm and the unembedding make of each direction alone, (B, D) -> (B, V) float32.

    The logit lens of a vector (nostalgebraist 2020): the last block's output is replaced by the direction, so it works
    on every architecture. Half the difference with its opposite is taken, which leaves out what a norm's bias adds.
    """
    stream = mx.array(np.concatenate([directions, -directions]).astype(np.float32))[:, None]  # (2B, 1, D)
    with model.taps.applied({model.identity.n_layers - 1: lambda h: stream.astype(h.dtype)}):
        logits = model.network(mx.array([[0]]))[:, -1].astype(mx.float32)  # (2B, V)
    found = np.array(logits)
    return (found[: len(directions)] - found[len(directions) :]) / 2


def promoted_tokens(model: Model, vectors: Sequence[Vector], k: int = 10) -> list[PromotedTokens]:
    """The k tokens that each of `vectors` promotes and suppresses most, in one pass. Raises VectorMismatch."""
    for vector in vectors:
        vector.check(model.identity)
    yardsticks = np.random.default_rng(0).standard_normal((YARDSTICKS, model.identity.width))
    logits = vector_logits(model, np.concatenate([[vector.direction for vector in vectors], yardsticks]))
    found, spread = logits[: len(vectors)], logits[len(vectors) :].std(axis=0)
    scores = found / np.maximum(spread, 1e-6 * spread.max())
    scores -= scores.mean(axis=1, keepdims=True)
    orders = np.argsort(-scores, axis=1, kind="stable")
    return [
        PromotedTokens(_named(model, row, order[:k]), _named(model, row, order[::-1][:k]))
        for row, order in zip(scores, orders, strict=True)
    ]


def _named(model: Model, scores: np.ndarray, ids: np.ndarray) -> tuple[tuple[str, float], ...]:
    return tuple((model.continuation([int(i)]), float(scores[i])) for i in ids)


def extreme_prompts(store: Store, vector: Vector, k: int = 5) -> list[dict[str, object]]:
    """The k stored prompts with the highest and the k with the lowest projection onto the vector, highest first."""
    return store.rows(named_query("prompts_along_vector"), [vector.vector_id, k, k])
