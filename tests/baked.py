"""What tests of baking share: two vectors in a store, and an expression that adds one and one that takes one out."""

from pathlib import Path

import numpy as np

from steering_core.api.stored_vectors import save_vector
from steering_core.models import Model
from steering_core.vectors.vector import Vector

ADDED, TAKEN_OUT = "2*push @all", "!pull @all"


def keep_vectors(model: Model, store: Path, concept_id: str | None = None) -> dict[str, Vector]:
    """`push` at layer 1 and `pull` at layer 2, of random directions, in the store."""
    found = {}
    for name, layer in (("push", 1), ("pull", 2)):
        direction = np.random.default_rng(layer).standard_normal(model.identity.width).astype(np.float32)
        key = f"{layer}" * 20
        made = {"direction": direction, "architecture": model.identity.architecture}
        vector = Vector(key, model.identity.model_id, concept_id, "made", layer, 5.0, **made)
        save_vector(model, vector, name, store=store)
        found[name] = vector
    return found
