"""The embedded model, watched for gladness: fixtures."""

from dataclasses import asdict

import numpy as np
import pytest

from steering_core.activations.in_memory import activations_of
from steering_core.concepts import Concept, load_concept
from steering_core.foundation.counting import Work
from steering_core.models import Model
from steering_core.monitors.gates import fit_gates
from steering_core.prompts import pair_prompt
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.vector import Vector


@pytest.fixture(scope="module")
def sentiment() -> Concept:
    """The shipped concept of glad and sad texts."""
    return load_concept("sentiment")


@pytest.fixture(scope="module")
def vector(real: Model, sentiment: Concept) -> Vector:
    """Glad against sad at a middle layer, from the concept's training pairs."""
    pairs = sentiment.pairs_in("train")
    streams = []
    for side in ("positive", "negative"):
        read = [pair_prompt(real, sentiment, pair, side) for pair in pairs[:24]]
        values, norms = activations_of(real, read, [15], "response")
        streams.append(values[:, 0].mean(axis=0))
    return Vector(
        "0" * 19 + "1", real.identity.model_id, None, "mean_difference", 15, float(norms.mean()),
        direction=(streams[0] - streams[1]).astype(np.float32), architecture=real.identity.architecture,
    )  # fmt: skip


@pytest.fixture(scope="module")
def watched_store(tmp_path_factory: pytest.TempPathFactory, real: Model, vector: Vector, sentiment: Concept) -> Store:
    """A store with the vector under a name, and its gates."""
    store = Store(tmp_path_factory.mktemp("monitors") / "store")
    store.append("models", [asdict(real.identity)])
    saving.save(store, [vector], "glad")
    fit_gates(real, store, library.find(store, "glad"), sentiment, Work())
    return store
