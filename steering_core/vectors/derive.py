"""Vectors from stored activations, without a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.activations.sites import SITE
from steering_core.concepts import Concept
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import VectorError
from steering_core.foundation.keys import content_key, seed_from
from steering_core.models import ModelIdentity
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, concept_sides, read_contrasts
from steering_core.vectors.controls import random_direction, shuffled_direction
from steering_core.vectors.labels import note_derived
from steering_core.vectors.linear import one_thread
from steering_core.vectors.methods import derived_direction, is_joint, method_key, refuse_unpaired
from steering_core.vectors.saving import restore
from steering_core.vectors.vector import Vector

VECTORS_VERSION = 2
CONTROLS = ("random", "shuffled")


@dataclass(frozen=True)
class Wanted:
    """A vector that is to be derived: its key, and all that says which one it is but for its direction."""

    vector_id: str
    method: str
    layer: int
    control: str | None
    seed: int | None
    draw: int = 0  # its number among the controls of its kind


@one_thread()
def derive(
    store: Store,
    model: ModelIdentity,
    concept: Concept,
    methods: Sequence[str],
    layers: Sequence[int],
    position: str,
    controls: int,
) -> Done:
    """Have the store hold every method's vector at every layer, each with `controls` random and as many shuffled ones.

    A vector that was removed is there again. Activations are read once for all layers and methods. Raises VectorError
    where a method finds no direction, or needs pairs and has unpaired texts.
    """
    sides = training_sides(store, model, concept, methods)
    wanted = wanted_vectors(model, concept, methods, layers, position, sides.key, controls)
    missing = store.absent("vectors", [w.vector_id for w in wanted])
    todo = [w for w in wanted if w.vector_id in missing]
    done = Done([w.vector_id for w in wanted], Work(len(missing), len(wanted) - len(missing)))
    with done.work.timed():
        rows = []
        for contrast in read_contrasts(store, model, sides, sorted({w.layer for w in todo}), position):
            here = [w for w in todo if w.layer == contrast.layer]
            made = _directions(concept, contrast, here)
            for w in here:
                vector = vector_of(model, concept, contrast, position, w, made[w.vector_id])
                rows.append(vector.row(sides.prompt_ids))
        store.append("vectors", rows)
        restore(store, done.ids)
        note_derived(store, done.ids)
    return done


def training_sides(store: Store, model: ModelIdentity, concept: Concept, methods: Sequence[str]) -> PromptSides:
    """The concept's pairs or texts for training, as the store has them for that model.

    Raises VectorError where a side has none, or one of `methods` needs pairs and the texts are unpaired.
    """
    refuse_unpaired(concept, methods)
    sides = concept_sides(store, model, concept.concept_id)
    if not sides.complete:
        raise VectorError(f"the store has no training pairs of {concept.name} for {model.name}: extract them first")
    return sides


def _variants(concept: Concept, method: str, layers: Sequence[int], n: int) -> list[tuple[str | None, int | None, int]]:
    """(control, seed, draw) of the vector itself, then of `n` controls of each kind."""
    kinds = [(kind, seed_from(kind, concept.concept_id, method, *layers, i), i) for kind in CONTROLS for i in range(n)]
    return [(None, None, 0), *kinds]


def wanted_vectors(
    model: ModelIdentity,
    concept: Concept,
    methods: Sequence[str],
    layers: Sequence[int],
    position: str,
    pairs_key: str,
    controls: int,
) -> list[Wanted]:
    """Every method's vector at every layer, and the controls beside it, each with its key.

    The key of a joint method's vector holds all layers, since its vectors of several layers belong together.
    """
    together = {method: list(layers) for method in methods if is_joint(method)}
    return [
        Wanted(
            content_key(
                *("vector", VECTORS_VERSION, model.model_id, concept.concept_id, method, method_key(method)),
                *(layer, SITE, position, pairs_key, control, seed, *together.get(method, ())),
            ),
            *(method, layer, control, seed, draw),
        )
        for method in methods
        for layer in layers
        for control, seed, draw in _variants(concept, method, together.get(method, [layer]), controls)
    ]


def _directions(concept: Concept, contrast: Contrast, wanted: Sequence[Wanted]) -> dict[str, np.ndarray]:
    """Every wanted direction at one layer, (D,) each by vector_id; a method runs once, and once a shuffled control."""
    positive, negative = contrast.positive, contrast.negative
    own: dict[str, np.ndarray] = {}
    made: dict[str, np.ndarray] = {}
    for w in wanted:
        if w.method not in own:
            own[w.method] = _derived(concept, contrast, w.method)
        made[w.vector_id] = own[w.method]
        if w.control == "random" and w.seed is not None:
            made[w.vector_id] = random_direction(own[w.method], w.seed)
        elif w.control == "shuffled" and w.seed is not None:
            made[w.vector_id] = shuffled_direction(w.method, positive, negative, own[w.method], w.seed)
    return made


def _derived(concept: Concept, contrast: Contrast, method: str) -> np.ndarray:
    """The method's direction; its VectorError names the concept and the layer."""
    try:
        return derived_direction(method, contrast.positive, contrast.negative, paired=contrast.paired)
    except VectorError as error:
        raise VectorError(f"{concept.name} at layer {contrast.layer}: {error}") from None


def vector_of(
    model: ModelIdentity,
    concept: Concept,
    contrast: Contrast,
    position: str,
    wanted: Wanted,
    direction: np.ndarray,
    trained: dict[str, Any] | None = None,
) -> Vector:
    """The wanted vector with its direction; `trained` are a trained method's notes for the lineage."""
    lineage = {"made": "derived", "version": VECTORS_VERSION, "source": method_key(wanted.method)}
    if not contrast.paired:
        lineage |= {"unpaired": {"positive": len(contrast.positive), "negative": len(contrast.negative)}}
    return Vector(
        vector_id=wanted.vector_id,
        model_id=model.model_id,
        concept_id=concept.concept_id,
        method=wanted.method,
        layer=wanted.layer,
        residual_norm=contrast.residual_norm,
        control=wanted.control,
        seed=wanted.seed,
        direction=direction.astype(np.float32),
        site=SITE,
        position=position,
        n_pairs=len(contrast.positive) if contrast.paired else 0,
        lineage=lineage | ({"trained": trained} if trained is not None else {}),
    )
