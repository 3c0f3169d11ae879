"""Vectors of permuted labels: what a method finds where a coin decided each pair's sides, at every layer of a grid.

They are what a permutation test ranks a vector among (`steering_core.evaluation.chance`). A method that does not see
which side is which (`pca_uncentred`) gets its rows in new pairs instead.
"""

from collections.abc import Sequence

import numpy as np

from steering_core.activations.sites import SITE
from steering_core.concepts import Concept
from steering_core.foundation.keys import content_key, seed_from
from steering_core.models import ModelIdentity
from steering_core.store import Store
from steering_core.vectors.contrast import concept_pairs, read_contrasts
from steering_core.vectors.controls import SAME, shuffled_direction
from steering_core.vectors.linear import one_thread
from steering_core.vectors.methods import METHODS, derived_direction, method_key
from steering_core.vectors.vector import Vector

PERMUTED = "permuted"
PERMUTED_VERSION = 1


@one_thread()
def permuted_vectors(
    store: Store,
    model: ModelIdentity,
    concept: Concept,
    methods: Sequence[str],
    layers: Sequence[int],
    position: str,
    draws: int,
) -> list[dict[int, list[Vector]]]:
    """For every draw the vector of each method at each layer, all from the same exchange of sides; stored as well.

    `methods` are names of methods that need activations alone.
    """
    pairs = list(concept_pairs(store, model, concept.concept_id).values())
    pairs_key = content_key("pairs", pairs)
    found: list[dict[int, list[Vector]]] = [{} for _ in range(draws)]
    for contrast in read_contrasts(store, model, pairs, list(layers), position):
        sides = contrast.positive, contrast.negative
        own = {method: derived_direction(method, *sides) for method in methods}
        for draw in range(draws):
            seed = seed_from(PERMUTED, concept.concept_id, draw)
            for method in methods:
                made_of = (
                    model.model_id,
                    concept.concept_id,
                    method,
                    method_key(method),
                    contrast.layer,
                    SITE,
                    position,
                )
                direction = permuted_direction(method, *sides, own[method], seed)
                found[draw].setdefault(contrast.layer, []).append(
                    Vector(
                        vector_id=content_key("vector", PERMUTED, PERMUTED_VERSION, *made_of, pairs_key, seed),
                        model_id=model.model_id,
                        concept_id=concept.concept_id,
                        method=method,
                        layer=contrast.layer,
                        residual_norm=contrast.residual_norm,
                        control=PERMUTED,
                        seed=seed,
                        direction=direction.astype(np.float32),
                        site=SITE,
                        position=position,
                        n_pairs=len(pairs),
                        lineage={"made": PERMUTED, "version": PERMUTED_VERSION},
                    )
                )
    store.append("vectors", [vector.row() for draw in found for vectors in draw.values() for vector in vectors])
    return found


def permuted_direction(
    method: str, positive: np.ndarray, negative: np.ndarray, like: np.ndarray, seed: int
) -> np.ndarray:
    """The method's direction where a coin exchanges the sides of each pair, (N, D) twice -> (D,), as long as `like`.

    The coin never leaves all pairs as they are, nor exchanges all. Where the method does not see sides, rows are
    shuffled between pairs (`shuffled_direction`).
    """
    random = np.random.default_rng(seed)
    exchanged = random.integers(0, 2, len(positive)).astype(bool)
    while len(positive) > 1 and (exchanged.all() or not exchanged.any()):
        exchanged = random.integers(0, 2, len(positive)).astype(bool)
    one = np.where(exchanged[:, None], negative, positive).astype(np.float64)
    other = np.where(exchanged[:, None], positive, negative).astype(np.float64)
    found = METHODS[method](one, other)
    norms = float(np.linalg.norm(found) * np.linalg.norm(like))
    if norms == 0 or abs(float(found @ like)) > SAME * norms:
        return shuffled_direction(method, positive, negative, like, seed)
    return np.asarray(found * (np.linalg.norm(like) / np.linalg.norm(found)))
