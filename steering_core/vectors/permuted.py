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
from steering_core.vectors.derive import Wanted, vector_of
from steering_core.vectors.linear import one_thread
from steering_core.vectors.methods import METHODS, derived_direction, method_key
from steering_core.vectors.vector import Vector, vectors_by_id

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
    """For every draw the vector of each method at each layer, all from one exchange of sides; made once, and stored.

    `methods` are names of methods that need activations alone.
    """
    pairs = list(concept_pairs(store, model, concept.concept_id).values())
    pairs_key = content_key("pairs", pairs)
    seeds = [seed_from(PERMUTED, concept.concept_id, draw) for draw in range(draws)]
    keys: dict[tuple[int, str, int], str] = {}  # by layer, method and seed
    for layer in layers:
        for method in methods:
            of = (model.model_id, concept.concept_id, method, method_key(method), layer, SITE, position, pairs_key)
            keys |= {(layer, method, s): content_key("vector", PERMUTED, PERMUTED_VERSION, *of, s) for s in seeds}
    missing = store.absent("vectors", list(keys.values()))
    rows, at = [], sorted({layer for (layer, _, _), key in keys.items() if key in missing})
    for contrast in read_contrasts(store, model, pairs, at, position):
        sides = contrast.positive, contrast.negative
        for method in methods:
            own = derived_direction(method, *sides)
            for seed in (s for s in seeds if keys[contrast.layer, method, s] in missing):
                wanted = Wanted(keys[contrast.layer, method, seed], method, contrast.layer, PERMUTED, seed)
                direction = permuted_direction(method, *sides, own, seed)
                rows.append(vector_of(model, concept, contrast, position, len(pairs), wanted, direction).row())
    store.append("vectors", rows)
    found = {vector.vector_id: vector for vector in vectors_by_id(store, list(keys.values()))}
    return [{layer: [found[keys[layer, m, seed]] for m in methods] for layer in layers} for seed in seeds]


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
