"""What `steer generate` and `steer chat` share: vectors and strengths from options, as one expression."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import yaml

from steering_core.foundation.bounds import MAX_ALPHA, MAX_DOSE, checked_dose
from steering_core.foundation.errors import InterventionError, PromptError, VectorError
from steering_core.foundation.keys import MAX_SEED
from steering_core.interventions.expression import Amount, Expression
from steering_core.interventions.parsing import parse
from steering_core.vectors.library import Layers


def _dose(text: str) -> float:
    """The dose that an option gives: one beyond bounds is asked about in the same words as everywhere."""
    return checked_dose(float(text))


Vectors = Annotated[
    list[str] | None, typer.Option("--vector", "-v", help="A vector by name, key or concept; several are added up.")
]
Alphas = Annotated[
    list[float] | None,
    typer.Option("--alpha", "-a", min=-MAX_ALPHA, max=MAX_ALPHA, help="Multiplier of each vector; one for all."),
]
Doses = Annotated[
    list[float] | None,
    typer.Option(
        "--dose",
        min=-MAX_DOSE,
        max=MAX_DOSE,
        parser=_dose,
        metavar="FLOAT",
        help="Instead: strength relative to the layer's mean residual norm. Without either: as recommended.",
    ),
]
Steer = Annotated[
    str | None, typer.Option("--steer", "-s", help="Instead: an expression, as in '0.6*formality - french @all'.")
]
PhaseOption = Annotated[str, typer.Option("--phase", help="Where vectors act: generation, prompt or all.")]
LayersOption = Annotated[
    str | None, typer.Option("--layers", help="A name's vectors of these layers, as in 12,15: not those recommended.")
]
AllLayers = Annotated[bool, typer.Option("--all-layers", help="A name's vectors of all layers.")]
SameFamily = Annotated[
    bool,
    typer.Option("--same-family", help="Allow vectors of another model of the same architecture and width."),
]
Template = Annotated[
    list[str] | None,
    typer.Option("--template", help="An argument of the chat template, as in enable_thinking=true or date=2026-01-31."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Of the sampling.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Folder of the store; STEERFLOW_STORE or data/store.")]


def layers_asked_for(layers: str | None, every: bool) -> Layers:
    """The layers that --layers or --all-layers ask for; None for those recommended. Raises VectorError."""
    if layers is not None and every:
        raise VectorError("give --layers or --all-layers, not both")
    if layers is None or layers == "all":
        return "all" if every or layers else None
    try:
        return [int(number) for number in layers.split(",")]
    except ValueError:
        raise VectorError(f"--layers {layers}: write numbers with commas, as in 12,15") from None


def template_arguments(given: Sequence[str] | None) -> dict[str, Any]:
    """Arguments of a chat template from NAME=VALUE, values read as YAML reads them. Raises PromptError."""
    arguments: dict[str, Any] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise PromptError(f"--template {one}: write NAME=VALUE, as in enable_thinking=true")
        try:
            arguments[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            arguments[name] = value
    return arguments


def asked_for(
    vectors: Sequence[str], alphas: Sequence[float], doses: Sequence[float], steer: str | None, phase: str
) -> Expression | None:
    """The expression that the options stand for; None for none. Raises InterventionError where they do not fit."""
    if steer is not None:
        if vectors or alphas or doses:
            raise InterventionError("give --steer, or --vector with --alpha or --dose, not both")
        return parse(steer)
    if not vectors:
        if alphas or doses:
            raise InterventionError("a strength without a vector: add --vector NAME")
        return None
    if alphas and doses:
        raise InterventionError("give --alpha or --dose, not both")
    strengths: list[Amount | None] = [Amount(alpha) for alpha in alphas]
    strengths = strengths or [Amount.of_dose(checked_dose(dose)) for dose in doses] or [None]
    if wrong := [one for one in strengths if one and not math.isfinite(one.value)]:
        raise InterventionError(f"a strength of {wrong[0]} is no number: give --alpha or --dose a finite one")
    if len(strengths) not in (1, len(vectors)):
        raise InterventionError(f"{len(vectors)} vectors and {len(strengths)} strengths: give one each, or one for all")
    strengths *= len(vectors) // len(strengths)
    both = zip(strengths, vectors, strict=True)
    blend = " + ".join(name if strength is None else f"{strength}*{name}" for strength, name in both)
    return parse(f"{blend} @{phase}")
