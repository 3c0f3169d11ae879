"""The registry of methods: each by its name, under one decorator, with what it asks for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from steering_core.concepts import Concept
from steering_core.foundation.errors import VectorError

if TYPE_CHECKING:
    from steering_core.vectors.joint import JointTraining  # passes need MLX, which names of methods do not
    from steering_core.vectors.training import Training

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
TrainedFunction = Callable[["Training"], np.ndarray] | Callable[["JointTraining"], np.ndarray]


@dataclass(frozen=True)
class TrainedMethod:
    """A method that asks the model, and how many passes over the training pairs it takes at most.

    `passes` are for every vector and every control that is trained, `shared` for all layers and controls together.
    A `joint` one trains the vectors of several layers at once: its passes are for all of them.
    """

    function: Callable[..., np.ndarray]
    passes: int
    shared: int
    joint: bool = False


METHODS: dict[str, Method] = {}
TRAINED: dict[str, TrainedMethod] = {}
UNPAIRED: set[str] = set()
"""Names of the methods that take unpaired texts; the others need pairs."""


@overload
def method(function: Method) -> Method:
    """A method of pairs that needs no model."""


@overload
def method(*, unpaired: bool) -> Callable[[Method], Method]:
    """A method that needs no model, and takes texts without partners where `unpaired` says so."""


@overload
def method(
    *, passes: int, shared: int = 0, unpaired: bool = False, joint: bool = False
) -> Callable[[TrainedFunction], TrainedFunction]:
    """A method that asks the model: `passes` over its training pairs at most, and `shared` ones for all layers."""


def method(
    function: Method | None = None,
    *,
    passes: int | None = None,
    shared: int = 0,
    unpaired: bool = False,
    joint: bool = False,
) -> Method | Callable[[Method], Method] | Callable[[TrainedFunction], TrainedFunction]:
    """Register a method under its function's name; specs and the CLI then know it.

    With `passes` it is a trained one (`TrainedMethod`), with `joint` one of several layers at once, and with `unpaired`
    one that takes texts without partners as well. A name is one method's: the last that took it.
    """

    def _register(read: Method) -> Method:
        _forget(read.__name__, unpaired)
        METHODS[read.__name__] = read
        return read

    def _register_trained(trained: TrainedFunction) -> TrainedFunction:
        _forget(trained.__name__, unpaired)
        TRAINED[trained.__name__] = TrainedMethod(trained, passes or 0, shared, joint)
        return trained

    if function is not None:
        return _register(function)
    return _register if passes is None else _register_trained


def _forget(name: str, unpaired: bool) -> None:
    """Leave the name to a new method, which takes unpaired texts or does not."""
    METHODS.pop(name, None)
    TRAINED.pop(name, None)
    UNPAIRED.discard(name)
    if unpaired:
        UNPAIRED.add(name)


def known_methods() -> dict[str, Callable[..., np.ndarray]]:
    """Every registered method's function by its name, of either kind."""
    return {**METHODS, **{name: trained.function for name, trained in TRAINED.items()}}


def is_trained(name: str) -> bool:
    """Whether the registered method `name` asks the model, where others read activations alone."""
    return name in TRAINED


def is_joint(name: str) -> bool:
    """Whether the method `name` is a trained one whose vectors of several layers belong together."""
    return name in TRAINED and TRAINED[name].joint


def refuse_unpaired(concept: Concept, names: Iterable[str]) -> None:
    """Raise VectorError where a method of those names needs pairs, and the concept has unpaired texts."""
    if (texts := concept.unpaired) is not None:
        for name in names:
            check_unpaired(name, len(texts.positive), len(texts.negative), f"{concept.name} has")


def check_unpaired(name: str, positive: int, negative: int, there: str = "there are") -> None:
    """Raise VectorError where the method `name` needs pairs, for so many texts that are none."""
    if name not in UNPAIRED:
        raise VectorError(
            f"{name} needs pairs, and {there} {positive} positive and {negative} negative texts that are not paired: "
            f"pair them, or use one of {', '.join(sorted(UNPAIRED))}"
        )
