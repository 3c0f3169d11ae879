"""Looking up the names of an expression: their vectors, one a layer, with the place in the text in every error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from steering_core.foundation.errors import InterventionError, LayerNotFound, VectorAmbiguous, VectorError
from steering_core.interventions.expression import Amount, Expression, Term, VectorName, When
from steering_core.interventions.parsing import fault_at, parse
from steering_core.interventions.safe_range import SafeRange
from steering_core.vectors.vector import Vector

Find = Callable[[str], Vector | Sequence[Vector]]
"""From a name to its vector, or its vectors, one a layer (`vectors.library.named`). Raises VectorError for none."""


@dataclass(frozen=True)
class Direction:
    """A direction at a layer, the layer's mean residual norm, and the direction's recommended alpha.

    `share` is the direction's part of a dose that is given to a name of several layers. `safe` is the range of doses
    of which nobody is warned. `lacks_strength` says whether alpha 1 is nobody's choice.
    """

    layer: int
    values: np.ndarray
    residual_norm: float
    recommended: float | None = None
    share: float = 1.0
    safe: SafeRange | None = None
    lacks_strength: bool = False


@dataclass(frozen=True)
class Lookup:
    """Looks up the names of one expression, whose `text` its errors show; layers from `n_layers` on are refused."""

    text: str
    find: Find
    n_layers: int | None

    @classmethod
    def of(cls, expression: Expression, find: Find, n_layers: int | None) -> "Lookup":
        """The lookup for an expression as somebody wrote it, or as it would be written."""
        return cls(expression.text or str(expression), find, n_layers)

    def vectors(self, named: VectorName) -> tuple[Vector, ...]:
        """All vectors of a name, at its layers where it has any."""
        return tuple(chain.from_iterable(self._called(name, named) for name in _names(named)))

    def only(self, named: VectorName) -> Vector:
        """The one vector of that name. Raises VectorAmbiguous."""
        vectors = self._called(named.name, named)
        if len(vectors) > 1:
            layers = ", ".join(str(vector.layer) for vector in vectors)
            what = (
                f"{named.name!r} is of layers {layers}, and one is needed here: write {named.name}/{vectors[-1].layer}"
            )
            raise VectorAmbiguous(fault_at(self.text, named.column, what))
        return vectors[0]

    def _called(self, name: str, named: VectorName) -> tuple[Vector, ...]:
        """The vectors called `name`. Raises what `find` does, with a caret under `named`."""
        try:
            return several(self.find(name))
        except VectorError as fault:
            raise type(fault)(fault_at(self.text, named.column, str(fault))) from None

    def check_layers(self, layers: tuple[int, ...]) -> None:
        """Raise LayerNotFound for a layer that the model lacks."""
        if self.n_layers is not None and (beyond := [layer for layer in layers if layer >= self.n_layers]):
            raise LayerNotFound(f"layer {beyond[0]} in {self.text!r}: the model has layers 0..{self.n_layers - 1}")

    def gate(self, when: When) -> float:
        """The vector's fitted threshold for the mean, or for one token. Raises InterventionError without one."""
        name, gates = when.vector.name, self.only(when.vector).gates
        over = "mean" if when.over == "prompt" else "token"
        if over not in gates:
            what = f"{name!r} has no gate: fit one with `steer vectors gate {name}`, or say a threshold, {name} > 2"
            raise InterventionError(fault_at(self.text, when.vector.column, what))
        return gates[over]


def parsed(expression: Expression | str) -> Expression:
    """The expression, or the one that a text says. Raises InterventionError for a text that says none."""
    return parse(expression) if isinstance(expression, str) else expression


def several(found: Vector | Sequence[Vector]) -> tuple[Vector, ...]:
    """What a `Find` gives, one vector or several, as several."""
    return (found,) if isinstance(found, Vector) else tuple(found)


def sharing_a_dose(vectors: Sequence[Vector]) -> list[Direction]:
    """The vectors of one name; those of a recommendation have the shares of a dose that they have in it."""
    doses = [vector.dose(vector.recommended) if vector.recommended is not None else 0.0 for vector in vectors]
    total = sum(map(abs, doses)) if all(doses) else 0.0
    shares = [dose / total if total and len(doses) > 1 else 1.0 for dose in doses]
    return [
        Direction(v.layer, v.direction, v.residual_norm, v.recommended, share, v.cautioned_beyond, v.lacks_strength)
        for v, share in zip(vectors, shares, strict=True)
    ]


def strength_at(term: Term, direction: Direction) -> Amount:
    """The strength of a term at one of its vectors: as it is written, or as the vector was recommended, or 1."""
    if term.strength is None:
        recommended = 1.0 if direction.recommended is None else direction.recommended
        return Amount(-recommended if term.minus else recommended)
    if not term.strength.percent:
        return term.strength
    return replace(term.strength, value=term.strength.value * direction.share)


def _names(named: VectorName) -> list[str]:
    """The name of each of its vectors: `name/14` where it has layers."""
    return [f"{named.name}/{layer}" for layer in named.layers] or [named.name]
