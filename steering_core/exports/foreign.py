"""Files of other tools as vectors: which tensor is which layer, said where it is read and refused where it is not."""

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steering_core.exports.tensor_names import Convention, named_place, names_a_layer, outside_the_stream
from steering_core.exports.vector_file import FileOperation
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.validation import shortened
from steering_core.models import ModelIdentity

log = logging.getLogger(__name__)
SHOWN = 6  # tensors that a message lists
_LAYER = re.compile(r"layer[-_. =]?([0-9]{1,4})(?![0-9])", re.IGNORECASE)
_SIDES = (
    "has {}, and does not say whether it was read at the blocks' inputs (resid_pre, as refusal_direction does) or at "
    "their outputs (resid_post)"
)


@dataclass(frozen=True)
class Tensors:
    """What another tool's file holds: tensors of floats by name, and what it declares of them.

    A file of one tensor without a name calls it "". `operation` is the one that the vectors were made for and
    `alpha` its strength, where the file says so. `notes` say what of the file was left out. `architecture` is that of
    the model that they were made for, as the file calls it.
    """

    named: Mapping[str, np.ndarray]
    operation: FileOperation = FileOperation.ADD
    alpha: float | None = None
    notes: tuple[str, ...] = ()
    architecture: str | None = None


@dataclass(frozen=True)
class ForeignReading:
    """How a person says that another tool's file is to be read, where it does not say so itself.

    `layer` counts as the file does, by its `convention`; `position` is a row of the first axis, from the end if it
    is negative.
    """

    tensor: str | None = None
    layer: int | None = None
    position: int | None = None
    convention: Convention | None = None
    operation: FileOperation = FileOperation.ADD

    def check_without(self, *options: str, why: str) -> None:
        """Raise VectorFileError for an option that was given; `why` says how the file answers it already."""
        for option in options:
            if getattr(self, option) is not None:
                raise VectorFileError(f"{why}: leave --{option} out")


@dataclass(frozen=True)
class _File:
    """One file that is being read: its path, its model and what was asked for."""

    path: Path
    model: ModelIdentity
    reading: ForeignReading

    @property
    def layer_option(self) -> str:
        """The option that names a layer: the one in the file's name, if any, or N."""
        named = _LAYER.search(self.path.stem)
        return f"--layer {named[1] if named else 'N'}"

    def refused(self, saw: str, *options: str) -> VectorFileError:
        """The error that says what was seen, and the command that would read it."""
        command = ["steer", "vectors", "import", shlex.quote(str(self.path)), "--model", shlex.quote(self.model.name)]
        asked = {
            "--tensor": self.reading.tensor and shlex.quote(self.reading.tensor),
            "--layer": self.reading.layer,
            "--position": self.reading.position,
            "--convention": self.reading.convention,
        }
        given = [f"{k} {v}" for k, v in asked.items() if v is not None and not any(o.startswith(k) for o in options)]
        return VectorFileError(f"{self.path} {saw}; read it with: {' '.join([*command, *given, *options])}")


def layers_of(tensors: Tensors, path: Path, model: ModelIdentity, reading: ForeignReading) -> dict[int, np.ndarray]:
    """The directions (D,) of a file by our 0-based layers; what is left out or taken for granted is logged.

    Raises VectorFileError for tensors of another place than the residual stream, for two of one layer, for shapes that
    do not fit `model`, and for what may mean several things; the message says which option would read it.
    """
    file = _File(path, model, reading)
    check_operation(tensors.operation, path, reading)
    for note in tensors.notes:
        log.warning("%s: %s", path, note)
    if tensors.architecture and not _is_called(model.architecture, tensors.architecture):
        hint, name = shortened(tensors.architecture, 80), model.name
        said = "%s: it says that it was made for a %s, and %s is a %s: a vector of another model steers nothing"
        log.warning(said, path, hint, name, model.architecture)
    found: dict[int, tuple[str, np.ndarray]] = {}
    for name, values in _chosen(file, tensors.named).items():
        for layer, direction in _directions(file, name, values, alone=len(tensors.named) == 1):
            if layer in found:
                both = f"{_called(found[layer][0])} and {_called(name)}"
                raise file.refused(f"has two tensors for layer {layer}, {both}", f"--tensor {shlex.quote(name)}")
            found[layer] = name, direction
    return _kept(file, {layer: direction for layer, (_, direction) in found.items()})


def _is_called(architecture: str, hint: str) -> bool:
    """Whether another tool may call an architecture so: llama.cpp has Mistral's models as llama, and no `_text`."""
    ours, theirs = (re.sub(r"[-_. ]|_text$", "", name.lower()) for name in (architecture, hint))
    return ours == theirs or (theirs == "llama" and ours in ("mistral", "mixtral"))


def check_operation(declared: FileOperation, path: Path, reading: ForeignReading) -> None:
    """Raise VectorFileError unless the person names the operation that the file declares; `add` need not be named."""
    if declared is reading.operation:
        return
    if declared is FileOperation.PROJECT:
        raise VectorFileError(
            f"{path} holds directions to project out of the stream (glp.mode project), and adding them would steer "
            "towards what they should remove: import it with --operation project, and steer with ablate(NAME)"
        )
    raise VectorFileError(f"{path} holds vectors to add, not to project out: leave --operation out")


def _chosen(file: _File, named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors that are read: the one asked for, or all. Raises for what is outside the residual stream."""
    if file.reading.tensor is not None:
        if file.reading.tensor not in named:
            raise VectorFileError(f"{file.path} has no tensor {file.reading.tensor!r}: it has {_listed(named)}")
        named = {file.reading.tensor: named[file.reading.tensor]}
    if not named:
        raise VectorFileError(f"{file.path} holds no tensor: it is no file of steering vectors")
    outside = {name: word for name in named if (word := outside_the_stream(name))}
    if outside:
        name, word = next(iter(outside.items()))
        saw = f"has the tensor {_called(name)}, which is not of the residual stream between the blocks ({word})"
        if inside := [name for name in named if name not in outside]:
            raise file.refused(saw, f"--tensor {shlex.quote(inside[0])}")
        raise VectorFileError(f"{file.path} {saw}: vectors of other places cannot be steered with here")
    return dict(named)


def _directions(file: _File, name: str, values: np.ndarray, alone: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(our layer, direction) of one tensor. Raises VectorFileError where its name or shape do not say which."""
    shape = f"the tensor {_called(name)} of shape {values.shape}" if name else f"one tensor of shape {values.shape}"
    if not values.ndim or values.shape[-1] != file.model.width:
        raise VectorFileError(
            f"{file.path} has {shape}: {file.model.name} has layers 0..{file.model.n_layers - 1} of width "
            f"{file.model.width}; name the model that it was made for"
        )
    chosen = alone or file.reading.tensor is not None
    overruled = file.reading.tensor is not None and file.reading.layer is not None  # what the name says of the layer
    place = named_place(name)
    if place is not None and not overruled:
        if values.size != file.model.width:
            raise VectorFileError(
                f"{file.path} has {shape}, more than one direction for one layer: save one direction a layer, (D,)"
            )
        why = f"{file.path} names its layers itself ({_called(name)})"
        file.reading.check_without("layer", "position", "convention", why=why)
        yield from _inside(file, name, place.layer, values.reshape(-1))
    elif not chosen or (names_a_layer(name) and file.reading.layer is None):
        saw = f"has {shape}, whose name says no layer of the residual stream"
        raise file.refused(saw, f"--tensor {shlex.quote(name)}", file.layer_option)
    else:
        yield from _unnamed(file, name, _at_position(file, shape, values), shape)


def _at_position(file: _File, shape: str, values: np.ndarray) -> np.ndarray:
    """One position's directions, (D,) or (rows, D)."""
    if values.ndim == 3 and values.shape[1] == 1 and file.model.n_layers != 1 and _is_by_layer(file, values.shape[0]):
        values = values[:, 0]  # (layers, 1, D)
    if values.ndim > 3 or (values.ndim == 3 and not _is_by_layer(file, values.shape[1])):
        n = file.model.n_layers
        raise VectorFileError(
            f"{file.path} has {shape}: a direction (D,), rows by layer ({n}, D) or ({n + 1}, D), and "
            f"(positions, {n}, D) are read; save one of them"
        )
    if values.ndim < 3:
        if file.reading.position is not None:
            raise VectorFileError(f"{file.path} has {shape}, which has no positions: leave --position out")
        return values
    position = file.reading.position
    if position is None and len(values) > 1:
        raise file.refused(f"has {shape}: {len(values)} positions, then layers", *_options_left(file, values))
    if position is not None and not -len(values) <= position < len(values):
        raise VectorFileError(
            f"{file.path} has {shape}: --position is {-len(values)}..{len(values) - 1}, not {position}"
        )
    if file.reading.convention is None and values.shape[1] == file.model.n_layers:
        raise file.refused(_SIDES.format(shape), *_options_left(file, values))
    return np.asarray(values[position or 0])


def _options_left(file: _File, values: np.ndarray) -> list[str]:
    """The options that an array (positions, layers, D) still needs."""
    options = [] if file.reading.position is not None or len(values) == 1 else ["--position -1"]
    if values.shape[1] == file.model.n_layers and file.reading.convention is None:
        options.append(f"--convention {Convention.RESID_PRE}")
    return options


def _is_by_layer(file: _File, n: int) -> bool:
    """Whether `n` rows may be one a layer, without the embeddings or with them."""
    return n in (file.model.n_layers, file.model.n_layers + 1)


def _unnamed(file: _File, name: str, values: np.ndarray, shape: str) -> Iterator[tuple[int, np.ndarray]]:
    """(our layer, direction) of (D,) or (rows, D)."""
    asked = file.reading.layer
    only_layer = values.ndim == 2 and file.model.n_layers == 1 and asked is None  # (1, D) is that model's rows by layer
    if values.size == file.model.width and not only_layer:
        if asked is None:
            raise file.refused(f"has {shape} and does not say its layer", file.layer_option)
        layer = asked + (file.reading.convention or Convention.RESID_POST).offset
        yield from _inside(file, name, layer, values.reshape(-1), asked=True)
        return
    if not _is_by_layer(file, len(values)):
        raise VectorFileError(
            f"{file.path} has {shape}: {file.model.name} has {file.model.n_layers} layers, so rows by layer are "
            f"{file.model.n_layers}, or {file.model.n_layers + 1} with the embeddings; name the model that it was made "
            "for"
        )
    convention = _row_convention(file, len(values))
    if asked is not None:
        if not 0 <= asked < len(values):
            raise VectorFileError(f"{file.path} has {shape}: --layer is 0..{len(values) - 1} there, not {asked}")
        yield from _inside(file, name, asked + convention.offset, values[asked], asked=True)
        return
    for row, direction in enumerate(values):
        yield from _inside(file, f"{name} row {row}".strip(), row + convention.offset, direction)


def _row_convention(file: _File, rows: int) -> Convention:
    """The convention in which rows by layer count; where nobody names one it is told from the shape, and logged."""
    given, n = file.reading.convention, file.model.n_layers
    if rows == n + 1:
        if given not in (None, Convention.HIDDEN_STATES):
            raise VectorFileError(
                f"{file.path} has {rows} rows for {n} layers, which is hidden_states: leave --convention {given} out"
            )
        log.warning(
            "%s: %d rows for %d layers are taken for transformers' hidden_states: row 0 is the embeddings, and row N "
            "our layer N - 1; the last row is after the model's final norm there, so measure layer %d first",
            file.path, rows, n, n - 1,
        )  # fmt: skip
        return Convention.HIDDEN_STATES
    if given is None:
        log.warning(
            "%s: row N is taken for the output of block N (--convention resid_pre, where it is the block's input)",
            file.path,
        )
    return given or Convention.RESID_POST


def _inside(
    file: _File, name: str, layer: int, direction: np.ndarray, asked: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """The layer with its direction. Nothing for the embeddings, and a line that says so, unless `asked` for by layer.

    Raises VectorFileError for a layer that the model does not have.
    """
    if layer == -1 and not asked:
        log.warning("%s: %s is of the embeddings, before block 0, and is left out", file.path, _called(name))
        return
    if not 0 <= layer < file.model.n_layers:
        before = "the embeddings, before block 0" if layer == -1 else f"layer {layer}"
        raise VectorFileError(
            f"{file.path} has a direction of {before}: {file.model.name} has layers 0..{file.model.n_layers - 1} of "
            f"width {file.model.width}; name the model that it was made for, or another --layer"
        )
    if asked:
        log.warning("%s: read as our layer %d, the output of block %d", file.path, layer, layer)
    yield layer, direction


def _kept(file: _File, directions: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The directions in float32, without those that are zero, which is said. Raises where nothing is left."""
    kept: dict[int, np.ndarray] = {}
    zero = []
    for layer, found in sorted(directions.items()):
        with np.errstate(over="ignore", invalid="ignore"):
            direction = np.ascontiguousarray(found, np.float32)
        if not np.isfinite(direction).all():
            raise VectorFileError(f"the direction of layer {layer} in {file.path} is not finite: derive it again")
        if direction.any():
            kept[layer] = direction
        else:
            zero.append(str(layer))
    if not kept:
        zeros = f"its direction of layer {', '.join(zero)} is zero" if zero else "it is all of the embeddings"
        raise VectorFileError(f"{file.path} has nothing to steer with: {zeros}")
    if zero:
        log.warning("%s: the direction of layer %s is zero, and is left out", file.path, ", ".join(zero))
    return kept


def _called(name: str) -> str:
    return repr(shortened(name, 80)) if name else "without a name"


def _listed(named: Mapping[str, np.ndarray]) -> str:
    shown = [f"{_called(name)} {values.shape}" for name, values in list(named.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
