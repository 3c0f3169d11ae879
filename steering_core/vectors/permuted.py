"""Vectors of permuted labels: what a method finds where a coin decided each pair's sides, at every layer of a grid.

Unpaired texts are dealt to the two sides anew, each as large as it was. A permutation test ranks a vector among these
(`steering_core.evaluation.chance`). A method that does not see which side is which (`pca_uncentred`) gets its rows in
new pairs instead.
"""

from collections.abc import Sequence

import numpy as np

from steering_core.activations.sites import SITE
from steering_core.concepts import Concept
from steering_core.foundation.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, read_contrasts
from steering_core.vectors.controls import is_no_control, shuffled_direction
from steering_core.vectors.derive import Wanted, training_sides, vector_of
from steering_core.vectors.linear import as_long_as, one_thread
from steering_core.vectors.methods import METHODS, derived_direction, method_key
from steering_core.vectors.relabelling import PERMUTED, Relabellings, relabelled
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector

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

    `methods` are names of methods that need activations alone. There are fewer draws than wanted where few rows have
    fewer labels that differ (`Relabellings.n_draws`): none for a single pair.
    """
    texts = training_sides(store, model, concept, methods)
    ways = Relabellings(len(texts.positive), len(texts.negative), texts.paired)
    seeds = ways.distinct_seeds(concept.concept_id, draws)
    keys: dict[tuple[int, str, int], str] = {}  # by layer, method and seed
    for layer in layers:
        for method in methods:
            of = (model.model_id, concept.concept_id, method, method_key(method), layer, SITE, position, texts.key)
            keys |= {(layer, method, s): content_key("vector", PERMUTED, PERMUTED_VERSION, *of, s) for s in seeds}
    missing = store.absent("vectors", list(keys.values()))
    rows, at = [], sorted({layer for (layer, _, _), key in keys.items() if key in missing})
    for contrast in read_contrasts(store, model, texts, at, position):
        for method in methods:
            own = derived_direction(method, contrast.positive, contrast.negative, paired=contrast.paired)
            for seed in (s for s in seeds if keys[contrast.layer, method, s] in missing):
                wanted = Wanted(keys[contrast.layer, method, seed], method, contrast.layer, PERMUTED, seed)
                direction = permuted_direction(method, contrast, own, seed)
                rows.append(vector_of(model, concept, contrast, position, wanted, direction).row())
    store.append("vectors", rows)
    found = {vector.vector_id: vector for vector in vectors_by_id(store, list(keys.values()))}
    return [{layer: [found[keys[layer, m, seed]] for m in methods] for layer in layers} for seed in seeds]


def permuted_direction(method: str, contrast: Contrast, like: np.ndarray, seed: int) -> np.ndarray:
    """The method's direction, (D,) as long as `like`, where a coin exchanges the sides of each pair of a contrast.

    The coin never leaves all pairs as they are, nor exchanges all. Unpaired texts are dealt to two sides of the old
    sizes. Where the method does not see sides, rows are shuffled between pairs (`shuffled_direction`).
    """
    positive, negative = contrast.positive, contrast.negative
    one, other = relabelled(positive, negative, contrast.paired, np.random.default_rng(seed))
    found = METHODS[method](one.astype(np.float64), other.astype(np.float64))
    if is_no_control(found, like):
        return shuffled_direction(method, positive, negative, like, seed)
    return as_long_as(like, found)
