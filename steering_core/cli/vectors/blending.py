"""`steer vectors blend`: a sum of vectors under a name of its own."""

from collections.abc import Collection, Sequence
from typing import Annotated

import typer

from steering_core.cli.shared.named_vectors import EveryLayer, ModelName, OfLayers, one_a_layer, print_made
from steering_core.cli.shared.options import StoreOption
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.foundation.errors import VectorError
from steering_core.store import Store, default_store
from steering_core.vectors import algebra, library, saving
from steering_core.vectors.vector import Vector


def blend(
    terms: Annotated[list[str], typer.Argument(help="WEIGHT*VECTOR or VECTOR; a weight may be negative.")],
    name: Annotated[str, typer.Option(help="What the result goes by.")],
    orthogonal_to: Annotated[list[str] | None, typer.Option(help="Take this vector's direction out of it.")] = None,
    unit: Annotated[bool, typer.Option("--unit", help="Give the result length 1.")] = False,
    model: ModelName = None,
    layers: OfLayers = None,
    all_layers: EveryLayer = False,
    store: StoreOption = None,
) -> None:
    """Make a vector of others: the sum of the terms, layer by layer where they have several.

    A name means what was recommended under it, at its layers and strength: the blend's own strength is then 1. One
    term alone scales it; weights 1 and -1 subtract. Write `--` before a first term that begins with a minus.
    """
    opened = Store.existing(store or default_store())
    of = layers_asked_for(layers, all_layers)
    parsed = [_term(opened, term, model, of) for term in terms]
    made = []
    for layer in sorted({vector.layer for _, vectors in parsed for vector in vectors}):
        here = [(weight, v) for weight, vectors in parsed for v in vectors if v.layer == layer]
        alphas = [v.usual_alpha for _, v in here]
        weights = [weight * alpha for (weight, _), alpha in zip(here, alphas, strict=True)]
        vector = algebra.blended([v for _, v in here], weights)
        if against := [one_a_layer(opened, text, model, [layer])[0] for text in orthogonal_to or []]:
            vector = algebra.orthogonalised(vector, against)
        made.append(algebra.normalised(vector) if unit else vector)
    print_made(saving.save(opened, made, name), name)
    if said := _unshared(terms, parsed):
        typer.echo(said)


def _unshared(terms: Sequence[str], parsed: Sequence[tuple[float, tuple[Vector, ...]]]) -> str:
    """A sentence on the terms' layers, where they do not all have the same; else ""."""
    layers = [{vector.layer for vector in vectors} for _, vectors in parsed]
    every, shared = set.union(*layers), set.intersection(*layers)
    if every == shared:
        return ""
    by_term = "; ".join(f"{term} at layers {_listed(of)}" for term, of in zip(terms, layers, strict=True))
    if not any(sum(layer in of for of in layers) > 1 for layer in every):
        return (
            f"Nothing was added up: no layer has two of the terms ({by_term}). They act side by side, each at its own "
            "layers. To add them up, take their vectors of one layer with --layers."
        )
    there = f"--layers {','.join(map(str, sorted(shared)))} takes only these" if shared else "no layer has all terms"
    return f"All terms are added up at layers {_listed(shared) or 'none'}: {by_term}; {there}."


def _listed(layers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(layers)))


def _term(store: Store, text: str, model: str | None, of: library.WantedLayers) -> tuple[float, tuple[Vector, ...]]:
    """The weight of WEIGHT*VECTOR, or 1, and the vectors that it names."""
    written, star, called = text.rpartition("*")
    try:
        weight = float(written) if star else 1.0
    except ValueError as error:
        raise VectorError(f"{text!r} is no term: write WEIGHT*VECTOR, such as 0.7*french/mean_difference/14") from error
    return weight, one_a_layer(store, called.strip(), model, of)
