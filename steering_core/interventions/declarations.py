"""What each operation is, as data: its name, its amount, what it asks of the vector. `operations` has the functions.

The grammar, the parser, the checks, the names' resolution and the explorer read it here, without loading MLX.
"""

from dataclasses import dataclass
from typing import Literal

from steering_core.foundation.errors import InterventionError
from steering_core.foundation.suggestions import did_you_mean

Percent = Literal["length", "component", "share"]
"""What a percentage of an operation's amount is of.

`length`: the layer's mean residual norm, as the length of amount * direction. `component`: the same norm, as a
component along the direction. `share`: one, so that 50% is 0.5.
"""


USUAL_DOSE = 0.3
"""The dose to begin with where nothing was recommended: on the page, in what commands propose and in README."""


@dataclass(frozen=True)
class Operation:
    """One operation: `name` is its word in expressions and its function's name, `amount` says what its number is.

    `percent` is None where a percentage has no meaning. `optional` says whether an expression may leave the amount out,
    which is then 1. `needs_direction` refuses the vector that is zero. The explorer's slider runs from `least` to
    `most` by `step` and stands at `start`: doses (shares of the residual norm) where there are any, else amounts.
    """

    name: str
    says: str
    amount: str
    percent: Percent | None
    optional: bool
    needs_direction: bool
    least: float
    most: float
    start: float
    step: float = 0.01

    @property
    def has_dose(self) -> bool:
        """Whether its amount can be given as a share of the residual norm."""
        return self.percent in ("length", "component")


OPERATIONS: dict[str, Operation] = {}


def declare(operation: Operation) -> Operation:
    """Make an operation known by its name."""
    OPERATIONS[operation.name] = operation
    return operation


ADD = declare(
    Operation(
        "add", "share of the layer's residual norm", "multiple of the vector",
        percent="length", optional=True, needs_direction=False, least=-1.2, most=1.2, start=USUAL_DOSE,
    )
)  # fmt: skip
ABLATE = declare(
    Operation(
        "ablate", "share of the component taken out", "share to remove",
        percent="share", optional=True, needs_direction=True, least=0, most=1, start=1,
    )
)  # fmt: skip
CLAMP = declare(
    Operation(
        "clamp", "component set to this share of the norm", "value",
        percent="component", optional=False, needs_direction=True, least=-1.2, most=1.2, start=USUAL_DOSE,
    )
)  # fmt: skip
ROTATE = declare(
    Operation(
        "rotate", "degrees towards the vector", "angle in degrees",
        percent=None, optional=False, needs_direction=True, least=-60, most=60, start=20, step=1,
    )
)  # fmt: skip
REPLACE = declare(
    Operation(
        "replace", "the vector in the stream's place, this share of the norm long", "multiple of the vector",
        percent="length", optional=True, needs_direction=False, least=-1.2, most=1.2, start=1,
    )
)  # fmt: skip


def declared(name: str) -> Operation:
    """The operation of that name. Raises InterventionError where there is none."""
    if name not in OPERATIONS:
        raise InterventionError(f"the operation {name!r} is not known: {did_you_mean(name, OPERATIONS)}")
    return OPERATIONS[name]


def called_by_name() -> tuple[str, ...]:
    """The operations that an expression writes as NAME(vector, amount): all but add, which is a sum of vectors."""
    return tuple(name for name in OPERATIONS if name != ADD.name)
