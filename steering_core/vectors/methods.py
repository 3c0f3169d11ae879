"""Methods: how a concept's pairs become a direction. One function each, registered by name, of one of two kinds.

A method takes the activations of the positive and of the negative sides, (N, D) each with row i of both from pair i,
as float64, and returns a direction (D,). One unit of alpha is one such vector, so its length counts: the differences
keep their own; what has none of its own (a component, a probe's weights) gets the mean difference's. One that reads
either side as a whole declares `@method(unpaired=True)`: it is then given texts without partners too, (N, D), (M, D).

    @method
    def median_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
        return np.median(positive - negative, axis=0)

A trained method takes a `steering_core.vectors.training.Training` instead: the model and the pairs' prompts at one
layer, and what passes through the model say of a vector there. It declares how many passes over the pairs it takes:

    @method(passes=1)
    def steepest(training: Training) -> np.ndarray:
        return training.preferences(np.zeros_like(training.start)).gradients.mean(axis=0)

Where that lies in a file of your own, a spec or `--method` names it as `FILE.py:median_difference`.
"""

import inspect
import os
import runpy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from steering_core.concepts import Concept
from steering_core.foundation.data_files import did_you_mean
from steering_core.foundation.errors import VectorError
from steering_core.foundation.keys import content_key
from steering_core.foundation.user_files import MAX_CODE, checked_file
from steering_core.vectors.linear import component_along, logistic_weights, top_component, whitened

if TYPE_CHECKING:
    from steering_core.vectors.training import Training  # passes need MLX, which names of methods do not

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
TrainedFunction = Callable[["Training"], np.ndarray]


@dataclass(frozen=True)
class TrainedMethod:
    """A method that asks the model, and how many passes over the training pairs it takes at most.

    `passes` are for every vector and every control that is trained, `shared` for all layers and controls together.
    """

    function: TrainedFunction
    passes: int
    shared: int


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
def method(*, passes: int, shared: int = 0, unpaired: bool = False) -> Callable[[TrainedFunction], TrainedFunction]:
    """A method that asks the model: `passes` over its training pairs at most, and `shared` ones for all layers."""


def method(
    function: Method | None = None, *, passes: int | None = None, shared: int = 0, unpaired: bool = False
) -> Method | Callable[[Method], Method] | Callable[[TrainedFunction], TrainedFunction]:
    """Register a method under its function's name; specs and the CLI then know it.

    With `passes` it is a trained one (`TrainedMethod`), with `unpaired` one that takes texts without partners as well.
    A name is one method's: the last that took it.
    """

    def _register(read: Method) -> Method:
        _forget(read.__name__, unpaired)
        METHODS[read.__name__] = read
        return read

    def _register_trained(trained: TrainedFunction) -> TrainedFunction:
        _forget(trained.__name__, unpaired)
        TRAINED[trained.__name__] = TrainedMethod(trained, passes or 0, shared)
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


_FOLDERS: ContextVar[tuple[Path, ...] | None] = ContextVar("folders of methods", default=None)


@contextmanager
def methods_only_from(folders: Iterable[Path]) -> Iterator[None]:
    """Within it, FILE.py:FUNCTION names a method only where the file lies in one of these folders, links followed."""
    token = _FOLDERS.set(tuple(folder.resolve() for folder in folders))
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def method_name(name: str) -> str:
    """The registered name of the method `name`, which may be FILE.py:FUNCTION: then the file is run.

    Raises VectorError for a name that nothing is registered under, for a file that may not be run
    (`methods_only_from`), that cannot be run or that has no such method.
    """
    file, colon, function = name.rpartition(":")
    if not colon:
        if name not in known_methods():
            raise VectorError(f"there is no method {name!r}: {did_you_mean(name, known_methods())}")
        return name
    path = Path(os.path.realpath(checked_file(Path(file), VectorError, MAX_CODE)))
    folders = _FOLDERS.get()
    if folders is not None and not any(path.is_relative_to(folder) for folder in folders):
        raise VectorError(
            f"the method {name!r} would run a file, which this service refuses: name one of "
            f"{', '.join(sorted(known_methods()))}, or add the file's folder to STEERFLOW_METHOD_FOLDERS where "
            "workers start"
        )
    before = known_methods().get(function)
    if before is None or Path(inspect.getfile(before)) != path:
        _run(path, function)
    return function


def _run(file: Path, function: str) -> None:
    """Run a user's file, which registers its methods. Raises VectorError where it does not register `function` anew."""
    known, arrays, trained, unpaired = known_methods(), dict(METHODS), dict(TRAINED), set(UNPAIRED)
    try:
        runpy.run_path(str(file))
    except (Exception, SystemExit) as error:
        raise VectorError(f"the file of methods {file} cannot be run: {type(error).__name__}: {error}") from error
    if taken := [name for name, found in known_methods().items() if known.get(name, found) is not found]:
        METHODS.clear()
        METHODS.update(arrays)
        TRAINED.clear()
        TRAINED.update(trained)
        UNPAIRED.clear()
        UNPAIRED.update(unpaired)
        raise VectorError(f"{file} has a method {taken[0]!r}, which there is already: give it another name")
    if function not in known_methods():
        raise VectorError(f"{file} has no method {function!r}: decorate it with steering_core.vectors.methods.method")


def derived_direction(name: str, positive: np.ndarray, negative: np.ndarray, *, paired: bool = True) -> np.ndarray:
    """What the method `name` finds, (N, D), (N, D) -> (D,) float64; of texts that are not `paired`, (N, D), (M, D).

    Raises VectorError for an unknown method, unequal shapes, values that are not finite, or where the two sides differ
    in nothing that the method could use, or are not paired and it needs pairs.
    """
    name = method_name(name)
    if is_trained(name):
        raise VectorError(f"{name} asks the model and not activations alone: `steer vectors derive` and specs train it")
    if not paired:
        check_unpaired(name, len(positive), len(negative))
    shapes = positive.shape, negative.shape if paired else (len(positive), *negative.shape[1:])
    if shapes[0] != shapes[1] or positive.ndim != 2 or not len(positive) or not len(negative):
        raise VectorError(
            f"{name} needs rows of equal width, one positive and one negative for each pair, not arrays of shape "
            f"{positive.shape} and {negative.shape}"
        )
    if bad := _not_finite(positive, negative):
        raise VectorError(
            f"{name} was given activations that are not finite ({'pairs' if paired else 'rows'} {bad}): extract them "
            "again with weights that do not overflow, such as float32 or bfloat16"
        )
    found = METHODS[name](positive.astype(np.float64), negative.astype(np.float64))
    return checked_direction(name, found, positive.shape[1], f"{len(positive)} pairs" if paired else "these texts")


def checked_direction(name: str, found: np.ndarray, width: int, data: str) -> np.ndarray:
    """What the method `name` found in its `data`, (D,), if it is a direction; otherwise VectorError."""
    found = np.asarray(found)
    if found.shape != (width,):
        raise VectorError(f"{name} returned shape {found.shape} for activations of width {width}")
    if not np.isfinite(found).all() or not np.linalg.norm(found) > 0:
        raise VectorError(f"{name} finds no direction in {data}: their two sides differ in nothing it can use")
    return found


def _not_finite(positive: np.ndarray, negative: np.ndarray) -> str:
    sides = (np.flatnonzero(~np.isfinite(side).all(axis=1)) for side in (positive, negative))
    rows = np.unique(np.concatenate(list(sides)))
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")


def method_key(name: str) -> str | None:
    """None for a method of this package, whose numbers a version covers; for any other a key of its whole file.

    So a constant or a helper that changes there makes another method of it; what the file imports does not count.
    """
    function = known_methods()[name]
    file = Path(inspect.getfile(function))
    if file.parent == Path(__file__).parent:
        return None
    if file.is_file():
        return content_key("method", file.read_text())
    code = function.__code__  # typed into a prompt: there is no file to read
    return content_key("method", code.co_code.hex(), repr(code.co_consts), code.co_names)


@method(unpaired=True)
def mean_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean of positive minus mean of negative, (N, D), (M, D) -> (D,). Rimsky et al. 2023 (CAA)."""
    direction: np.ndarray = positive.mean(axis=0) - negative.mean(axis=0)
    return direction


@method
def single_pair(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Positive minus negative of the first pair alone, (N, D), (N, D) -> (D,). Turner et al. 2023 (ActAdd)."""
    difference: np.ndarray = positive[0] - negative[0]
    return difference


@method(unpaired=True)
def mean_difference_orthogonal(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The mean difference without its component along the mean of both sides' means, (N, D), (M, D) -> (D,).

    That mean is what every prompt shares, and in many models it is most of the stream. To take out another concept's
    direction instead, see `algebra.orthogonalised`.
    """
    difference = mean_difference(positive, negative)
    return difference - component_along(difference, positive.mean(axis=0) + negative.mean(axis=0))


@method
def pca_uncentred(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Direction of the largest mean square of the pairs' differences, (N, D), (N, D) -> (D,).

    The first component of the differences about 0, not about their mean: what steering-vectors calls `pca`, and repeng
    `pca_center`.
    """
    return _oriented(top_component(positive - negative), positive, negative)


@method
def pca_centred(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Direction in which the pairs' differences vary most about their mean, (N, D), (N, D) -> (D,).

    It needs two pairs, and it is orthogonal to the mean difference where all pairs differ by the same amount.
    """
    differences = positive - negative
    return _oriented(top_component(differences - differences.mean(axis=0)), positive, negative)


@method(unpaired=True)
def pca_pooled(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """First principal component of both sides' activations together, (N, D), (M, D) -> (D,).

    Right where the concept is what the texts differ in most. Zou et al. 2023 (RepE, LAT).
    """
    rows = np.concatenate([positive, negative])
    return _oriented(top_component(rows - rows.mean(axis=0)), positive, negative)


@method(unpaired=True)
def logistic(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Weights of a logistic probe that tells the two sides apart, (N, D), (M, D) -> (D,).

    With an intercept and an L2 penalty of C = 1, scikit-learn's defaults.
    """
    weights = logistic_weights(positive, negative, intercept=True)
    return _oriented(weights, positive, negative)


@method
def logistic_paired(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Weights of a logistic probe on each pair's deviations from its own mean, (N, D), (N, D) -> (D,).

    What a pair's two sides share (its topic) cannot disturb it. steering-vectors' `logistic`.
    """
    half = (positive - negative) / 2
    return _oriented(logistic_weights(half, -half, intercept=False), positive, negative)


@method(unpaired=True)
def lda(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The mean difference, whitened by the covariance within the sides, (N, D), (M, D) -> (D,).

    Fisher's linear discriminant; the covariance is shrunk towards a multiple of the identity by as much as Ledoit and
    Wolf 2004 find best, so fewer samples than dimensions will do. With one pair it is the mean difference.
    """
    within = np.concatenate([positive - positive.mean(axis=0), negative - negative.mean(axis=0)])
    return _oriented(whitened(mean_difference(positive, negative), within), positive, negative)


def _oriented(direction: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """`direction` turned to the side of the mean difference and given its length; zero where either is zero."""
    difference = mean_difference(positive, negative)
    norm = np.linalg.norm(direction)
    if norm == 0:
        return direction
    sign = -1.0 if direction @ difference < 0 else 1.0
    return direction * (sign * np.linalg.norm(difference) / norm)


from steering_core.vectors import trained_methods  # noqa: E402, F401  (registers them, with `method` from here)
