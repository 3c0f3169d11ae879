"""What steers, as options of several verbs: vectors with their strengths, or an expression, gathered into one value."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from steering_core.foundation.bounds import MAX_ALPHA, MAX_DOSE, checked_dose, dose_in
from steering_core.foundation.errors import InterventionError, VectorError
from steering_core.interventions.expression import Amount, Expression
from steering_core.interventions.parsing import parse
from steering_core.vectors.library import WantedLayers

SteerOption = Annotated[
    str | None, typer.Option("--steer", "-s", help="Instead: an expression, as in '0.6*formality - french @all'.")
]


@dataclass(frozen=True)
class SteeringOptions:
    """What steers: vectors with their strengths, layers and phase, or an expression in `steer`."""

    vector: Annotated[
        list[str] | None, typer.Option("--vector", "-v", help="A vector by name, key or concept; several are added up.")
    ] = None
    alpha: Annotated[
        list[float] | None,
        typer.Option("--alpha", "-a", min=-MAX_ALPHA, max=MAX_ALPHA, help="Multiplier of each vector; one for all."),
    ] = None
    dose: Annotated[
        list[float] | None,
        typer.Option(
            "--dose",
            min=-MAX_DOSE,
            max=MAX_DOSE,
            parser=dose_in,
            metavar="DOSE",
            help="Instead: relative to the layer's mean residual norm, 0.3 or 30%. Without either: as recommended.",
        ),
    ] = None
    steer: SteerOption = None
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="A name's vectors of these layers, as in 12,15: not those recommended."),
    ] = None
    all_layers: Annotated[bool, typer.Option("--all-layers", help="A name's vectors of all layers.")] = False
    phase: Annotated[
        str | None, typer.Option("--phase", help="Where vectors act: generation (as without it), prompt or all.")
    ] = None

    @property
    def wanted_layers(self) -> WantedLayers:
        """The layers of every name; None for those recommended. Raises VectorError."""
        return layers_asked_for(self.layers, self.all_layers)

    @property
    def expression(self) -> Expression | None:
        """The expression that the options stand for; None for none. Raises InterventionError where they do not fit."""
        if self.steer is not None:
            if self.vector or self.alpha or self.dose:
                raise InterventionError("give --steer, or --vector with --alpha or --dose, not both")
            if self.phase:
                raise InterventionError(f"--steer says where it acts: write @{self.phase} in it, and leave --phase out")
            return parse(self.steer)
        if not self.vector:
            if self.alpha or self.dose:
                raise InterventionError("a strength without a vector: add --vector NAME")
            return None
        both = zip(self._strengths(len(self.vector)), self.vector, strict=True)
        blend = " + ".join(name if strength is None else f"{strength}*{name}" for strength, name in both)
        return parse(f"{blend} @{self.phase or 'generation'}")

    def _strengths(self, n: int) -> list[Amount | None]:
        """The strength of each of `n` vectors; None for what is recommended."""
        if self.alpha and self.dose:
            raise InterventionError("give --alpha or --dose, not both")
        given = [Amount(alpha) for alpha in self.alpha or []]
        given = given or [Amount.of_dose(checked_dose(dose)) for dose in self.dose or []]
        if wrong := [one for one in given if not math.isfinite(one.value)]:
            raise InterventionError(f"a strength of {wrong[0]} is no number: give --alpha or --dose a finite one")
        if len(given) not in (0, 1, n):
            raise InterventionError(f"{n} vectors and {len(given)} strengths: give one each, or one for all")
        if not given:
            return [None] * n
        return [given[0]] * n if len(given) == 1 else [*given]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer sees it: each parameter that is a dataclass of options stands there as its fields."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    spread = [part for one in parameters for part in (_fields(one) if one.name in groups else [one])]

    @functools.wraps(command)
    def with_fields(**given: Any) -> None:
        """Gather each group's fields, and run the command."""
        gathered = {
            name: group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**given, **gathered)

    with_fields.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]  # inspect reads it, typer asks
    with_fields.__annotations__ = {one.name: one.annotation for one in spread}
    return with_fields


def _fields(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """A group's fields as parameters that stand where the group does."""
    hints = get_type_hints(parameter.annotation, include_extras=True)
    for field in dataclasses.fields(parameter.annotation):
        yield inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=hints[field.name])


def layers_asked_for(layers: str | None, every: bool) -> WantedLayers:
    """The layers that --layers or --all-layers ask for; None for those recommended. Raises VectorError."""
    if layers is not None and every:
        raise VectorError("give --layers or --all-layers, not both")
    if every or layers == "all":
        return "all"
    if layers is None:
        return None
    try:
        return [int(number) for number in layers.split(",")]
    except ValueError:
        raise VectorError(f"--layers {layers}: write numbers with commas, as in 12,15") from None
