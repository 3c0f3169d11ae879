"""The registry of methods: each by its name, under one decorator, with what it asks for."""

import inspect
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload
from weakref import WeakKeyDictionary

import numpy as np

from steering_core.concepts import Concept
from steering_core.foundation.errors import VectorError
from steering_core.foundation.keys import content_key

if TYPE_CHECKING:
    from steering_core.vectors.training.at_layer import Training
    from steering_core.vectors.training.joint import JointTraining  # passes need MLX, which names of methods do not

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
TrainedFunction = Callable[["Training"], np.ndarray] | Callable[["JointTraining"], np.ndarray]


@dataclass(frozen=True)
class TrainedMethod:
    """A method that asks the model, and how many passes over the training pairs it takes at most.

    `passes` are for every vector and every control that is trained, `shared` for all layers and controls together.
    A `joint` method trains the vectors of several layers at once, and its passes are for all these layers.
    """

    function: Callable[..., np.ndarray]
    passes: int
    shared: int
    joint: bool = False


METHODS: dict[str, Method] = {}
TRAINED: dict[str, TrainedMethod] = {}
UNPAIRED: set[str] = set()
"""Names of the methods that take unpaired texts; the others need pairs."""
SOURCES: WeakKeyDictionary[Callable[..., np.ndarray], str | None] = WeakKeyDictionary()
"""The key of the code that each registered function was made from (`method_key`)."""


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

    With `passes` it is a trained method (`TrainedMethod`), with `joint` one of several layers at once, and with
    `unpaired` one that takes texts without partners as well. A later method of the same name replaces it.
    """

    def _register(read: Method) -> Method:
        _register_name(read.__name__, unpaired)
        SOURCES[read] = _source_key(read)
        METHODS[read.__name__] = read
        return read

    def _register_trained(trained: TrainedFunction) -> TrainedFunction:
        _register_name(trained.__name__, unpaired)
        SOURCES[trained] = _source_key(trained)
        TRAINED[trained.__name__] = TrainedMethod(trained, passes or 0, shared, joint)
        return trained

    if function is not None:
        return _register(function)
    return _register if passes is None else _register_trained


def _register_name(name: str, unpaired: bool) -> None:
    """Free the name for a new method, and note whether that takes unpaired texts."""
    forget(name)
    if unpaired:
        UNPAIRED.add(name)


def forget(name: str) -> None:
    """Take the method of that name, if there is one, out of the registry."""
    METHODS.pop(name, None)
    TRAINED.pop(name, None)
    UNPAIRED.discard(name)


def file_of(function: Callable[..., np.ndarray]) -> Path:
    """The file that a method's function was written in, links followed.

    For a function that was typed into a prompt, a name that no file has.
    """
    return Path(os.path.realpath(inspect.getfile(function)))


def text_key(source: bytes) -> str:
    """The key of a file of methods with these contents; LF and CRLF give the same key."""
    return content_key("method", io.StringIO(source.decode(errors="replace"), newline=None).getvalue())


def _source_key(function: Callable[..., np.ndarray]) -> str | None:
    """None for a method of this package; otherwise the key of its file as it is now, or of the typed code."""
    file = file_of(function)
    if file.parent == Path(__file__).resolve().parent:
        return None
    if file.is_file():
        return text_key(file.read_bytes())
    code = function.__code__  # typed into a prompt: there is no file to read
    return content_key("method", code.co_code.hex(), repr(code.co_consts), code.co_names)


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
    """Raise VectorError where the method `name` needs pairs; there are `positive` and `negative` unpaired texts."""
    if name not in UNPAIRED:
        raise VectorError(
            f"{name} needs pairs, and {there} {positive} positive and {negative} negative texts that are not paired: "
            f"pair them, or use one of {', '.join(sorted(UNPAIRED))}"
        )


def method_meanings() -> dict[str, str]:
    """What each registered method finds, by name: the first paragraph of its function's docstring."""
    documented = {name: inspect.getdoc(function) for name, function in known_methods().items()}
    return {name: " ".join(text.split("\n\n")[0].split()) for name, text in documented.items() if text}
