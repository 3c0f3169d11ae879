"""`Change`: one operation with one direction at one layer, and where in a text it acts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from steering_core.errors import InterventionError

Phase = Literal["all", "prompt", "generation"]
PHASES: tuple[Phase, ...] = ("all", "prompt", "generation")


@dataclass(frozen=True)
class Where:
    """The token positions at which a change acts.

    `prompt` is every token of the prompt; `generation` is the prompt's last token, whose output is the first new
    token, and everything after it (as CAA steers); `all` is both.
    """

    phase: Phase = "all"

    def gate(self, positions: np.ndarray, prompt_length: int) -> np.ndarray:
        """1 where the change acts and 0 elsewhere, (T,) absolute positions -> (T,) float32."""
        if self.phase == "prompt":
            acts = positions < prompt_length
        elif self.phase == "generation":
            acts = positions >= prompt_length - 1
        else:
            acts = np.ones_like(positions, dtype=bool)
        return acts.astype(np.float32)

    def first(self, prompt_length: int) -> int:
        """The first position at which the change acts."""
        return prompt_length - 1 if self.phase == "generation" else 0


@dataclass(frozen=True)
class Change:
    """One operation at one layer: `direction` (D,) float32, scaled or measured by `amount`."""

    layer: int
    direction: np.ndarray = field(repr=False)
    amount: float = 1.0
    operation: str = "add"
    where: Where = Where()

    def check(self, n_layers: int, width: int) -> None:
        """Raise InterventionError where the change does not fit a model of `n_layers` blocks and that width."""
        if not 0 <= self.layer < n_layers:
            raise InterventionError(f"layer {self.layer}: the model has layers 0..{n_layers - 1}")
        if self.direction.shape != (width,):
            raise InterventionError(
                f"a vector of shape {self.direction.shape} at layer {self.layer}: the model's residual stream has "
                f"width {width}"
            )
        if not np.isfinite(self.direction).all() or not math.isfinite(self.amount):
            raise InterventionError(f"the vector or its amount {self.amount} at layer {self.layer} is not finite")


@dataclass(frozen=True)
class Intervention:
    """What is done to the residual stream of one text, in order. No change at all is the model itself."""

    changes: tuple[Change, ...] = ()

    def check(self, n_layers: int, width: int) -> None:
        """Raise InterventionError where a change does not fit the model."""
        for change in self.changes:
            change.check(n_layers, width)

    def first(self, prompt_length: int) -> float:
        """The first position that is touched; infinite where nothing is."""
        return min((change.where.first(prompt_length) for change in self.changes), default=math.inf)


def first_position(interventions: Sequence[Intervention], prompt_length: int) -> float:
    """The first position that any of `interventions` touches."""
    return min((i.first(prompt_length) for i in interventions), default=math.inf)
