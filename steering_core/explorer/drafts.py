"""Drafts: vectors from a contrast that somebody just typed, kept in memory until they are saved."""

import threading
from collections import OrderedDict
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from steering_core.activations.in_memory import activations_of
from steering_core.explorer.fields import Flag
from steering_core.foundation.errors import VectorNotFound
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import Strict
from steering_core.models import Model
from steering_core.prompts import example
from steering_core.vectors.methods import derived_direction
from steering_core.vectors.vector import Vector

MAX_PAIRS = 32
KEPT = 64  # contrasts, all layers of each
DraftText = Annotated[str, Field(min_length=1, max_length=4000)]


class DraftContrast(Strict):
    """Texts that show a behaviour and texts that do not, pair by pair; `chat` sends them as a user's messages."""

    positive: Annotated[tuple[DraftText, ...], Field(min_length=1, max_length=MAX_PAIRS)]
    negative: Annotated[tuple[DraftText, ...], Field(min_length=1, max_length=MAX_PAIRS)]
    chat: Flag = False
    position: Literal["last", "mean"] = "last"

    @model_validator(mode="after")
    def _paired(self) -> "DraftContrast":
        if len(self.positive) != len(self.negative):
            raise ValueError(f"{len(self.positive)} positive texts and {len(self.negative)} negative ones: pair them")
        return self


def contrast_vectors(model: Model, contrast: DraftContrast) -> list[Vector]:
    """The mean difference of the contrast at every layer of the model. Raises VectorError where its sides are alike."""
    prompts = [example(model, text, chat=contrast.chat) for text in (*contrast.positive, *contrast.negative)]
    layers = range(model.identity.n_layers)
    values, norms = activations_of(model, prompts, layers, contrast.position)  # (2N, L, D), (2N, L)
    n = len(contrast.positive)
    vectors = []
    for layer in layers:
        direction = derived_direction("mean_difference", values[:n, layer], values[n:, layer]).astype(np.float32)
        vectors.append(_vector(model, contrast, layer, direction, float(norms[:, layer].mean())))
    return vectors


def _vector(model: Model, contrast: DraftContrast, layer: int, direction: np.ndarray, residual_norm: float) -> Vector:
    made = contrast.model_dump(mode="json")
    return Vector(
        vector_id=content_key("vector", "contrast", 1, model.identity.model_id, made, layer),
        model_id=model.identity.model_id,
        concept_id=None,
        method="mean_difference",
        layer=layer,
        residual_norm=residual_norm,
        direction=direction,
        architecture=model.identity.architecture,
        position=contrast.position,
        n_pairs=len(contrast.positive),
        lineage={"made": "contrast", **made},
    )


class Drafts:
    """The latest contrasts' vectors, by what made them and by their keys. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[str, list[Vector]] = OrderedDict()

    def of(self, model: Model, contrast: DraftContrast) -> list[Vector]:
        """The contrast's vector at every layer, computed once. For the accelerator's thread alone."""
        key = content_key(model.identity.model_id, contrast.model_dump(mode="json"))
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        vectors = contrast_vectors(model, contrast)
        with self._lock:
            self._made[key] = vectors
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return vectors

    def find(self, vector_id: str) -> Vector | None:
        """The draft with that key, if it is still there."""
        with self._lock:
            return next((v for vectors in self._made.values() for v in vectors if v.vector_id == vector_id), None)

    def found(self, vector_ids: list[str]) -> list[Vector]:
        """The drafts with those keys. Raises VectorNotFound for one that is gone."""
        vectors = [(vector_id, self.find(vector_id)) for vector_id in vector_ids]
        if gone := [vector_id for vector_id, vector in vectors if vector is None]:
            raise VectorNotFound(f"the draft {gone[0]} is gone: make it from its contrast again")
        return [vector for _, vector in vectors if vector is not None]
