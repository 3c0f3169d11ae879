"""What the sub-verbs of `steer vectors` take and tell: the vectors that a name stands for, among those of a model."""

from collections.abc import Sequence
from typing import Annotated

import typer

from steering_core.foundation.errors import VectorAmbiguous, VectorError
from steering_core.interventions.safe_range import begin_over_layers
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.library_rows import models_called
from steering_core.vectors.vector import Vector

Called = Annotated[str, typer.Argument(help="A name, a key, or concept/method/layer.")]
ModelAt = Annotated[str, typer.Argument(help="An embedded model, an mlx-lm folder, or a Hugging Face id.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Only this model's vectors.")]
OfLayers = Annotated[
    str | None, typer.Option("--layers", help="The vectors of these layers, as in 12,15: not those recommended.")
]
EveryLayer = Annotated[bool, typer.Option("--all-layers", help="The vectors of all layers.")]


def one_a_layer(store: Store, text: str, model: str | None, layers: library.WantedLayers = None) -> tuple[Vector, ...]:
    """What a name means, one vector a layer: its recommendation, else all of it; or the layers that are asked for."""
    return library.named(store, text, identity_of(store, model), layers, several=True)


def identity_of(store: Store, model: str | None) -> ModelIdentity | None:
    """The model that the store knows by that name or key; None for None.

    Raises VectorError for one that it lacks, and VectorAmbiguous for a name of models of other weights.
    """
    if model is None:
        return None
    rows = models_called(store, model)
    if len({weights_of(row["model_id"]) for row in rows}) > 1:
        keys = ", ".join(row["model_id"] for row in rows)
        raise VectorAmbiguous(
            f"{model!r} is {len(rows)} models in the store, whose files were not the same ({keys}): say which by its "
            f"key, as in --model {rows[-1]['model_id']}"
        )
    return ModelIdentity(**rows[-1])


def names_in(text: str, option: str) -> list[str]:
    """The names in a text such as `a,b`, which `option` was given. Raises VectorError where there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise VectorError(f"{option} names none: give one or several, as in {option} sycophancy,formality")
    return names


def name_of(store: Store, vector: Vector) -> str | None:
    """What somebody called a vector."""
    rows = store.rows("SELECT name FROM vectors WHERE vector_id = ?", [vector.vector_id])
    return rows[0]["name"] if rows else None


def told(vectors: Sequence[Vector]) -> str:
    """Which vectors they are, in words."""
    if len(vectors) == 1:
        return f"vector {vectors[0].vector_id}, layer {vectors[0].layer}, norm {vectors[0].norm:.4g}"
    return f"{len(vectors)} vectors, layers {', '.join(str(v.layer) for v in vectors)}"


def print_made(vectors: Sequence[Vector], name: str | None) -> None:
    """Say what was made, what it goes by, and at which strength to begin where it acts at several layers."""
    typer.echo(f"{name or vectors[0].vector_id}: {told(vectors)}")
    if name and len({vector.layer for vector in vectors}) > 1 and all(v.recommended is None for v in vectors):
        typer.echo(f"It acts at each of its {len(vectors)} layers: {begin_over_layers(name, len(vectors))}.")
