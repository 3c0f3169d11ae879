"""Methods by name: which function a spec means, run from a user's file where it lies in one, and what it finds."""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

import numpy as np

from steering_core.foundation.errors import SteerflowError, VectorError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import MAX_CODE, checked_file, file_bytes
from steering_core.foundation.validation import counted
from steering_core.vectors.methods.registry import (
    METHODS,
    SOURCES,
    TRAINED,
    UNPAIRED,
    check_unpaired,
    file_of,
    forget,
    is_trained,
    known_methods,
    text_key,
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

    A file that has changed since is run again. Raises VectorError for a name that nothing is registered under, for a
    file that may not be run (`methods_only_from`), that cannot be run or that has no such method.
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
    before, source = known_methods().get(function), file_bytes(path, VectorError, MAX_CODE)
    if before is None or file_of(before) != path or SOURCES.get(before) != text_key(source):
        _run(path, source, function)
    return function


def _run(file: Path, source: bytes, function: str) -> None:
    """Run the `source` of a user's file, which registers its methods in place of those that it registered before.

    Raises VectorError, and leaves the methods as they were, where the file cannot be run, registers no `function`, or
    takes the name of another file's method.
    """
    arrays, trained, unpaired = dict(METHODS), dict(TRAINED), set(UNPAIRED)
    others = {name: found for name, found in known_methods().items() if file_of(found) != file}
    for name in known_methods().keys() - others:
        forget(name)
    try:
        _execute(file, source)
        found = known_methods()
        if taken := [name for name, other in others.items() if found.get(name) is not other]:
            raise VectorError(f"{file} has a method {taken[0]!r}, which there is already: give it another name")
        own = sorted(found.keys() - others)
        if function not in own:
            has = f"it has {', '.join(own)}; another one needs the decorator" if own else "decorate it with"
            raise VectorError(f"{file} has no method {function!r}: {has} steering_core.vectors.methods.method")
    except VectorError:
        for name in list(known_methods()):
            forget(name)
        METHODS.update(arrays)
        TRAINED.update(trained)
        UNPAIRED.update(unpaired)
        raise
    SOURCES.update({found[name]: text_key(source) for name in own})


def _execute(file: Path, source: bytes) -> None:
    """Run `source` as a module of its own, which stays among Python's modules. Raises VectorError where it fails."""
    module = ModuleType(f"_methods_{text_key(source)}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where dataclasses look up the names of a class's module
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise VectorError(f"the file of methods {file} cannot be run: {type(error).__name__}: {error}") from error


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
    with faults_named(name):
        found = METHODS[name](positive.astype(np.float64), negative.astype(np.float64))
    data = counted(len(positive), "pair") if paired else "these texts"
    if np.array_equal(positive, negative):
        raise VectorError(
            f"{name} finds no direction in {data}: both sides have the same activations, so change a text"
        )
    if paired and len(positive) == 1 and not np.any(found):
        raise VectorError(f"{name} finds no direction in one pair: give it two or more, or take another method")
    return checked_direction(name, found, positive.shape[1], data)


@contextmanager
def faults_named(name: str) -> Iterator[None]:
    """Within it, what a user's own method raises becomes a VectorError that names the method and its file."""
    try:
        yield
    except SteerflowError:
        raise
    except Exception as error:
        if method_key(name) is None:
            raise
        file = file_of(known_methods()[name])
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        at = f" in line {lines[-1]}" if lines else ""
        raise VectorError(f"the method {name} of {file} failed{at}: {type(error).__name__}: {error}") from error


def checked_direction(name: str, found: np.ndarray, width: int, data: str) -> np.ndarray:
    """What the method `name` found in its `data`, (D,), if it is a direction; otherwise VectorError."""
    found = np.asarray(found)
    if found.shape != (width,):
        raise VectorError(f"{name} returned shape {found.shape} for activations of width {width}")
    if not np.isfinite(found).all() or not np.linalg.norm(found) > 0:
        raise VectorError(f"{name} finds no direction in {data}: their two sides differ in nothing it can use")
    return found


def _not_finite(positive: np.ndarray, negative: np.ndarray) -> str:
    """The first five rows in which either side has nan or inf, in words; empty where there is none."""
    sides = (np.flatnonzero(~np.isfinite(side).all(axis=1)) for side in (positive, negative))
    rows = np.unique(np.concatenate(list(sides)))
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")


def method_key(name: str) -> str | None:
    """None for a method of this package, whose results a version number covers; for any other a key of its whole file.

    A constant or a helper that changes in the file makes another method of it; what the file imports does not count.
    The key is that of the code that was run, also where the file was edited since.
    """
    return SOURCES[known_methods()[name]]
