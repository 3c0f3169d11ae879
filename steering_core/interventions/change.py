"""`Change`: one operation with one direction at one layer, and where in a text it acts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from steering_core.foundation.errors import InterventionError
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.safe_range import DOSE_OVER_LAYERS, SafeRange, doses_over_layers, unsaid_strength
from steering_core.interventions.where import CONSTANT, PHASES, Over, Phase, Where

LARGEST = float(np.finfo(np.float32).max)
_ROUNDED = 1.005  # the end of a safe range is printed with three digits: a dose written so is within it
_SHOWN = 6  # changes of an intervention that its name tells
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)  # beside 0


@dataclass(frozen=True)
class Condition:
    """Holds at tokens whose residual stream has a component along `direction` (D,) above (or below) `threshold`.

    The component is read at `layer` before that layer's changes, at each token by itself. After Lee et al. 2024 (CAST).
    With `over` prompt it is read once, off the mean over the user's last turn (over the whole prompt, where it has no
    turns) as the untouched model reads it: the change then acts everywhere or nowhere (`engine.forward.checked`).
    """

    layer: int
    direction: np.ndarray = field(repr=False)
    threshold: float
    above: bool = True
    over: Over = "token"

    @property
    def unit(self) -> np.ndarray:
        """The direction at length 1, (D,) float32; zero where it is zero."""
        return self.direction / max(float(np.linalg.norm(self.direction)), 1e-12)


@dataclass(frozen=True, repr=False)
class Change:
    """One operation at one layer: `direction` (D,) float32, scaled or measured by `amount`.

    `safe` is the safe range of the recommendation or vector that the direction comes from. `unsaid` is the name whose
    strength nobody gave or recommended, so that `amount` is 1. `called` is the name by which the vector is meant. They
    decide warnings alone.
    """

    layer: int
    direction: np.ndarray = field(repr=False)
    amount: float = 1.0
    operation: str = ADD.name
    where: Where = Where()
    condition: Condition | None = None
    safe: SafeRange | None = field(default=None, repr=False, compare=False)
    unsaid: str | None = field(default=None, repr=False, compare=False)
    called: str | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Change {self}, width {len(self.direction)}>"

    def __str__(self) -> str:
        where = self.where
        at = [f"positions {', '.join(map(str, where.positions))}"] if where.positions else []
        at += [f"in {where.span!r}"] if where.span else []
        at += [f"schedule {where.schedule.kind} {where.schedule.value:g}"] if where.schedule != CONSTANT else []
        at += ["on a condition"] if self.condition else []
        return ", ".join([f"{self.operation} at layer {self.layer} with {self.amount:.4g} @{where.phase}", *at])

    @property
    def first_layer(self) -> int:
        """The first layer that it changes or reads."""
        return min(self.layer, self.condition.layer) if self.condition else self.layer

    @property
    def length(self) -> float:
        """The length of amount times the direction."""
        return abs(self.amount) * float(np.linalg.norm(self.direction.astype(np.float64)))

    def check(self, n_layers: int, width: int) -> None:
        """Raise InterventionError where the change does not fit a model of `n_layers` blocks and that width."""
        operation = declared(self.operation)
        _check_direction("the vector", self.layer, self.direction, n_layers, width)
        if not math.isfinite(self.amount):
            raise InterventionError(f"the amount {self.amount} at layer {self.layer} is not finite")
        if abs(self.amount) * max(1.0, float(np.abs(self.direction).max())) > LARGEST:
            raise InterventionError(
                f"{self.operation} at layer {self.layer} with {self.amount:g} is beyond float32's range: lower the "
                "strength"
            )
        if operation.needs_direction and not np.any(self.direction):
            raise InterventionError(f"{self.operation} at layer {self.layer} needs a direction, and the vector is zero")
        self.where.check()
        if self.condition is not None:
            _check_direction("the condition", self.condition.layer, self.condition.direction, n_layers, width)
            if self.condition.layer > self.layer:
                raise InterventionError(
                    f"a change at layer {self.layer} cannot depend on layer {self.condition.layer}, which is later"
                )
            if not abs(self.condition.threshold) <= LARGEST:
                raise InterventionError(
                    f"the condition's threshold {self.condition.threshold} is not within float32's range"
                )


def _check_direction(what: str, layer: int, direction: np.ndarray, n_layers: int, width: int) -> None:
    if not 0 <= layer < n_layers:
        raise InterventionError(f"layer {layer}: the model has layers 0..{n_layers - 1}")
    if direction.shape != (width,):
        raise InterventionError(
            f"{what} at layer {layer} has shape {direction.shape}: the model's residual stream has width {width}"
        )
    if not np.isfinite(direction).all():
        raise InterventionError(f"{what} at layer {layer} is not finite")


@dataclass(frozen=True, repr=False)
class Intervention:
    """What is done to the residual stream of one text, in order. No change at all is the model itself."""

    changes: tuple[Change, ...] = ()

    def __repr__(self) -> str:
        shown = [*map(str, self.changes[:_SHOWN]), *(["…"] if len(self.changes) > _SHOWN else [])]
        return f"<Intervention: {'; '.join(shown) or 'nothing is changed'}>"

    def __add__(self, other: "Intervention") -> "Intervention":
        return Intervention(self.changes + other.changes)

    @property
    def cautions(self) -> tuple[str, ...]:
        """A sentence for each name that is added without a strength or proof, and for what is added beyond its range.

        Of a recommendation all layers count together, and so do those of a name of which no layer was measured.
        """
        unsaid: dict[str, list[float]] = {}
        doses: dict[str, float] = {}
        ranges: dict[str, SafeRange] = {}
        doubts: dict[str, None] = {}
        spread = self._spread()
        for change in self.changes:
            if change.safe is None or change.operation != ADD.name:
                continue
            key, dose = change.safe.source_id, change.length / change.safe.residual_norm
            if change.safe.doubt:
                doubts[change.safe.doubt] = None
            if change.unsaid is not None:
                unsaid.setdefault(change.unsaid, []).append(dose)
            if change.safe.measured or (change.unsaid is None and change.called not in spread):
                doses[key] = doses.get(key, 0.0) + dose
                ranges[key] = change.safe
        beyond = [ranges[key].caution(dose) for key, dose in doses.items() if dose > ranges[key].dose * _ROUNDED]
        over = [doses_over_layers(name, each) for name, each in spread.items()]
        return (*(unsaid_strength(name, each) for name, each in unsaid.items()), *over, *beyond, *doubts)

    def _spread(self) -> dict[str, list[float]]:
        """Names whose doses at several layers add up beyond `DOSE_OVER_LAYERS`, with the dose at each layer.

        A name of one measured range is left to that.
        """
        doses: dict[str, dict[int, float]] = {}
        measured: dict[str, set[str | None]] = {}
        for change in self.changes:
            if change.safe is None or change.operation != ADD.name or change.called is None or change.unsaid:
                continue
            at = doses.setdefault(change.called, {})
            at[change.layer] = at.get(change.layer, 0.0) + change.length / change.safe.residual_norm
            measured.setdefault(change.called, set()).add(change.safe.source_id if change.safe.measured else None)
        return {
            name: list(at.values())
            for name, at in doses.items()
            if len(at) > 1
            and sum(at.values()) > DOSE_OVER_LAYERS * _ROUNDED
            and (len(measured[name]) > 1 or None in measured[name])
        }

    def check(self, n_layers: int, width: int) -> None:
        """Raise InterventionError where a change does not fit the model."""
        for change in self.changes:
            change.check(n_layers, width)

    def first(self, prompt_length: int) -> float:
        """The first position that is touched; infinite where nothing is."""
        return min((change.where.first(prompt_length) for change in self.changes), default=math.inf)


UNTOUCHED = Intervention()


def first_position(interventions: Sequence[Intervention], prompt_length: int) -> float:
    """The first position that any of `interventions` touches."""
    return min((i.first(prompt_length) for i in interventions), default=math.inf)


__all__ = ["PHASES", "UNTOUCHED", "Change", "Condition", "Intervention", "Phase", "Where", "first_position"]
