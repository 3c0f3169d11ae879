"""Vectors of the store as a table and by their names, and vectors of one's own kept there."""

from dataclasses import asdict, replace

from steering_core.api.options import StorePath
from steering_core.api.row_table import Rows
from steering_core.foundation.errors import VectorAmbiguous, VectorError
from steering_core.models import Model
from steering_core.store import Store, default_store
from steering_core.vectors.library import WantedLayers, named
from steering_core.vectors.library_rows import library_rows
from steering_core.vectors.saving import remove_called, save, stored_alike
from steering_core.vectors.vector import Vector


def list_vectors(
    name: str | None = None, model: str | Model | None = None, store: StorePath = None, *, controls: bool = False
) -> Rows:
    """The vectors in the store, a row each with its quality, or those that `name` means; of a `model` or of all.

    The same as `steer vectors list`: `auc_test` is the AUC on test pairs, `split_half` the cosine of the directions of
    two halves. A model is an open one, a name or a key. `controls` adds random and shuffled-label controls. Raises
    VectorNotFound where `name` means none, VectorError for a model that the store lacks, and StoreError where there is
    no store.
    """
    whose = model.identity.model_id if isinstance(model, Model) else model
    return Rows(library_rows(Store.existing(store), name, whose, controls=controls))


def find_vectors(
    model: Model, name: str, store: StorePath = None, *, layers: WantedLayers = None, same_family: bool = False
) -> tuple[Vector, ...]:
    """The vectors that `name` means for this model in the store, one a layer: those recommended, where there are any.

    `name` is a concept, `concept/method/layer`, a key, or a name that somebody gave. `layers` takes the vectors of
    these layers instead, or "all". With `same_family` they may be of another model of the same architecture and width,
    with a warning. Raises VectorNotFound, VectorAmbiguous, VectorMismatch, and StoreError where there is no store.
    """
    found = named(Store.existing(store), name, None if same_family else model.identity, layers)
    for vector in found:
        vector.check(model.identity, same_family=same_family)
    return found


def find_vector(
    model: Model, name: str, store: StorePath = None, *, layer: int | None = None, same_family: bool = False
) -> Vector:
    """The one vector that `name` means for this model in the store, or its vector at `layer`.

    Raises as `find_vectors` does, and VectorAmbiguous where the name means several layers.
    """
    layers = None if layer is None else [layer]
    found = find_vectors(model, name, store, layers=layers, same_family=same_family)
    if len(found) > 1:
        shown = ", ".join(str(vector.layer) for vector in found)
        raise VectorAmbiguous(f"{name!r} is of layers {shown}: take find_vectors for all of them, or name a layer=")
    return found[0]


def save_vector(model: Model, vector: Vector, name: str | None = None, store: StorePath = None) -> Vector:
    """Keep `vector` in the store under `name`: expressions, the CLI and the explorer then find it, also after export.

    The name may be left out of a vector that has one from `Vector.from_numpy`. Returns the vector as it is kept: under
    the key of its content, unless the store has it already. A vector that goes by another name keeps that name, and a
    copy goes by this one. Raises VectorMismatch for another model's vector, VectorError for one that does not fit the
    model, and for a name that is taken, means a recommendation, or is not allowed.
    """
    vector.check(model.identity)
    if (name := name or vector.lineage.get("name")) is None:
        raise VectorError("a vector is kept under a name: give save_vector(model, vector, 'NAME')")
    kept = Store(store or default_store())
    kept.append("models", [asdict(model.identity)])
    (saved,) = save(kept, [vector if stored_alike(kept, vector) else vector.keyed()], name)
    return replace(saved, name=name)


def remove_vector(
    model: Model, vector: Vector | str, store: StorePath = None, *, every: bool = False
) -> tuple[Vector, ...]:
    """Take a vector of this model, or what goes by that name, out of the store's library; what was taken out.

    Results that came from it keep it, and `save_vector` brings it back. The same as `steer vectors rm`. A name of
    several vectors, such as one a layer, takes `every`. Raises VectorNotFound, VectorAmbiguous for a name of several
    vectors, and StoreError where there is no store.
    """
    called = vector.vector_id if isinstance(vector, Vector) else vector
    return tuple(remove_called(Store.existing(store), called, model.identity, every=every))
