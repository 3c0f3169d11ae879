"""Saving: vectors in the library under the names, with the tags that people give them, and out of it again.

What a name means to those who ask for a vector is `vectors.library`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from steering_core.foundation.errors import VectorAmbiguous, VectorError
from steering_core.foundation.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store
from steering_core.vectors.allowed_names import check_allowed
from steering_core.vectors.labels import label
from steering_core.vectors.library import find_all
from steering_core.vectors.vector import Vector

_WITH_VECTORS = "FROM recommendations WHERE concept = ? AND len(coalesce(vector_ids, [vector_id])) > 0"


def save(
    store: Store,
    vectors: Sequence[Vector],
    name: str | None = None,
    prompt_ids: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Vector]:
    """Have the store hold `vectors`, under `name` where one is given; one that was removed is there again.

    `prompt_ids`, by vector_id, are the prompts whose activations they come from. A vector that goes by another name
    already keeps it: a copy goes by this one. What was saved is returned. Raises VectorError for a vector that does not
    fit its model, for a key under which the store has another direction, and for a name that is taken or not allowed.
    """
    _check_fit(store, vectors)
    _check_keys(store, vectors)
    prompts = {vector.vector_id: prompt_ids.get(vector.vector_id, ()) for vector in vectors}
    if name is not None:
        called = _names_of(store, vectors)
        copies = [v if called.get(v.vector_id, name) == name else _copied(v, name) for v in vectors]
        prompts = {copy.vector_id: prompts[v.vector_id] for v, copy in zip(vectors, copies, strict=True)}
        vectors = copies
        _check_name(store, name, vectors)
    store.append("vectors", [v.row(prompts[v.vector_id]) for v in vectors])
    ids = [vector.vector_id for vector in vectors]
    restore(store, ids)
    if name is not None:
        label(store, ids, "name", name)
    return list(vectors)


def stored_alike(store: Store, vector: Vector) -> bool:
    """Whether the store has this very vector: its key, with its layer, model and direction."""
    rows = _stored(store, [vector])
    return bool(rows) and _alike(vector, rows[0])


def _check_fit(store: Store, vectors: Sequence[Vector]) -> None:
    ids = sorted({vector.model_id for vector in vectors})
    rows = store.rows("SELECT model_id, name, n_layers, width FROM raw.models WHERE list_contains(?, model_id)", [ids])
    known = {row["model_id"]: row for row in rows}
    for vector in vectors:
        if row := known.get(vector.model_id):
            vector.check_fit(row["name"], row["n_layers"], row["width"])


def _check_keys(store: Store, vectors: Sequence[Vector]) -> None:
    known = {row["vector_id"]: row for row in _stored(store, vectors)}
    for vector in vectors:
        if (row := known.get(vector.vector_id)) and not _alike(vector, row):
            raise VectorError(
                f"the store has another direction under the key {vector.vector_id}: give this vector a key of its own, "
                "as vector.keyed() does, or make it with Vector.from_numpy"
            )


def _stored(store: Store, vectors: Sequence[Vector]) -> list[dict[str, Any]]:
    ids = [vector.vector_id for vector in vectors]
    return store.rows(
        "SELECT vector_id, model_id, layer, vector FROM raw.vectors WHERE list_contains(?, vector_id)", [ids]
    )


def _alike(vector: Vector, row: dict[str, Any]) -> bool:
    """Whether the vector is the stored one, up to the rounding in which two machines differ."""
    there = np.asarray(row["vector"], np.float32)
    same_place = (vector.model_id, vector.layer, vector.direction.shape) == (row["model_id"], row["layer"], there.shape)
    return same_place and bool(np.linalg.norm(vector.direction - there) <= 1e-3 * np.linalg.norm(there))


def _names_of(store: Store, vectors: Sequence[Vector]) -> dict[str, str]:
    ids = [vector.vector_id for vector in vectors]
    rows = store.rows(
        "SELECT vector_id, name FROM vectors WHERE name IS NOT NULL AND list_contains(?, vector_id)", [ids]
    )
    return {row["vector_id"]: row["name"] for row in rows}


def _copied(vector: Vector, name: str) -> Vector:
    lineage = {"made": "copied", "of": [vector.vector_id], "name": name}
    vector_id = content_key("vector", lineage)
    return dataclasses.replace(vector, vector_id=vector_id, concept_id=None, lineage=lineage, recommended=None)


def restore(store: Store, vector_ids: Sequence[str]) -> None:
    """Put the vectors that were removed back into the library."""
    removed = store.rows(
        "SELECT vector_id FROM labels WHERE kind = 'removed' AND list_contains(?, vector_id)", [list(vector_ids)]
    )
    label(store, [row["vector_id"] for row in removed], "removed", "", holds=False)


def rename(store: Store, vectors: Sequence[Vector], name: str) -> None:
    """Have `vectors`, one a layer, go by `name` from now on. Raises VectorError where it is taken or not allowed."""
    _check_name(store, name, vectors)
    label(store, [vector.vector_id for vector in vectors], "name", name)


def tag(store: Store, vectors: Sequence[Vector], text: str, *, holds: bool = True) -> None:
    """Tag `vectors` with `text`, or take the tag away."""
    label(store, [vector.vector_id for vector in vectors], "tag", text, holds=holds)


def remove(store: Store, vectors: Sequence[Vector]) -> None:
    """Take `vectors` out of the library. Their rows stay where results came from them (`steer store gc`)."""
    label(store, [vector.vector_id for vector in vectors], "removed", "")


def remove_called(store: Store, text: str, model: ModelIdentity | None, *, every: bool = False) -> list[Vector]:
    """`remove` the vectors that go by `text`, of `model` where it is given; which those are.

    Raises VectorNotFound where there is none, VectorAmbiguous where there are several and `every` is False.
    """
    found = find_all(store, text, model)
    if len(found) > 1 and not every:
        raise VectorAmbiguous(
            f"{text!r} is {len(found)} vectors: give --all (in Python every=True) to remove them all, or a key or a "
            "layer"
        )
    remove(store, found)
    return found


def _check_name(store: Store, name: str, vectors: Sequence[Vector]) -> None:
    check_allowed(name)
    ids = [vector.vector_id for vector in vectors]
    taken = store.rows(
        "SELECT vector_id, model_id, layer FROM vectors WHERE name = ? AND NOT list_contains(?, vector_id)", [name, ids]
    )
    if len(set(own := [(vector.model_id, vector.layer) for vector in vectors])) < len(own):
        raise VectorError(f"{len(own)} vectors cannot all be {name!r}: one a layer and model can, so name fewer")
    if clash := [row["vector_id"] for row in taken if (row["model_id"], row["layer"]) in own]:
        raise VectorError(f"{name!r} is vector {clash[0]} of that layer already: take another name, or remove that one")
    if set(_names_of(store, vectors).values()) == {name}:
        return
    if hidden := _recommended_for(store, name, vectors):
        raise VectorError(
            f"{name!r} means what was recommended for that concept on {hidden}, and a vector of that name would hide "
            f"it: take another name, such as {name}-2"
        )
    if hidden := _derived_for(store, name, vectors):
        raise VectorError(
            f"{name!r} means the vectors of that concept on {hidden}, which a vector of that name would hide: take "
            f"another name, such as {name}-2"
        )


def _recommended_for(store: Store, concept: str, vectors: Sequence[Vector]) -> str | None:
    """The model of one of the vectors on which some vector is recommended for the concept, if there is one."""
    own, rows = {weights_of(vector.model_id) for vector in vectors}, store.rows(_WITH_VECTORS, [concept])
    return next((row["model"] for row in rows if weights_of(row["model_id"]) in own), None)


def _derived_for(store: Store, concept: str, vectors: Sequence[Vector]) -> str | None:
    """The model of one of the vectors for which vectors of the concept, other than these, were derived, if any."""
    own, ids = {weights_of(vector.model_id) for vector in vectors}, [vector.vector_id for vector in vectors]
    rows = store.rows(
        "SELECT DISTINCT model, model_id FROM vectors WHERE concept = ? AND control IS NULL AND name IS NULL "
        "AND NOT list_contains(?, vector_id)",
        [concept, ids],
    )
    return next((row["model"] for row in rows if weights_of(row["model_id"]) in own), None)
