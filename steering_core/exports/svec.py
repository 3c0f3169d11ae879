"""Vectors as `.svec`, the JSON files of IBM's activation-steering: `directions` by layer, of one model type.

Layer N is the output of block N there: it reads `hidden_states[N + 1]`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.exports.foreign import Tensors
from steering_core.exports.vector_file import VectorFile
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import file_text
from steering_core.foundation.validation import shortened, shown

MAX_SVEC = 512 << 20  # bytes; 80 layers of width 8,192 are 15 MB


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`, one vector a layer. Directions alone are kept, and no explained variance is claimed."""
    directions = {str(layer): vector.direction.tolist() for layer, vector in sorted(file.by_layer().items())}
    data = {"model_type": file.model.architecture, "directions": directions, "explained_variances": {}}
    path.write_text(json.dumps(data), encoding="utf-8")


def read(path: Path) -> Tensors:
    """The directions of a .svec file, as `layer.N`. Raises VectorFileError."""
    try:
        data = json.loads(file_text(path, VectorFileError, MAX_SVEC))
    except (ValueError, RecursionError) as error:
        said = shortened(str(error), 200)
        raise VectorFileError(f"{path} cannot be read as .svec, which is JSON ({said}): save it again") from error
    found = data.get("directions") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found:
        raise VectorFileError(f"{path} has no `directions` by layer: it is no .svec file of activation-steering")
    tensors = {f"layer.{_layer(name, path)}": _direction(name, values, path) for name, values in found.items()}
    if len(tensors) < len(found):
        raise VectorFileError(f"{path} has two directions for one layer: save it again with one")
    return Tensors(tensors)


def _layer(name: str, path: Path) -> int:
    if not (name.isascii() and name.isdecimal()) or len(name) > 6:
        raise VectorFileError(f"{path} has a direction for {shown(name)}: layers are whole numbers from 0 on")
    return int(name)


def _direction(layer: str, values: Any, path: Path) -> np.ndarray:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or not values:
        raise VectorFileError(f"{path}: the direction of layer {layer} must be a list of numbers, not {shown(values)}")
    try:
        return np.array(values, np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        raise VectorFileError(
            f"{path}: the direction of layer {layer} has a number beyond float64: derive it again"
        ) from None
