"""Vectors as GGUF control vectors, which llama.cpp (`--control-vector`) and repeng read.

`direction.N` is added to the output of llama.cpp's 0-based block N, so it holds our layer N. llama.cpp has no
direction.0, and leaves alone the layers that a file does not name. What the vectors are for is declared as GLP does.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from steering_core.exports import glp
from steering_core.exports.foreign import SHOWN, Tensors
from steering_core.exports.vector_file import FORMAT, VectorFile, restored
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, checked_file
from steering_core.foundation.validation import shortened

ARCHITECTURE = "controlvector"
HINT = f"{ARCHITECTURE}.model_hint"
_TYPES = {
    str: gguf.GGUFValueType.STRING,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
}
MAX_VALUES = 100_000  # of a header; each is read by itself
_DIRECTION = re.compile(r"direction\.([0-9]{1,6})", re.IGNORECASE)
_SUBSPACE = re.compile(r"direction\.[0-9]+\.[0-9]+", re.IGNORECASE)


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`, one vector a layer. Raises VectorFileError for layer 0 or two vectors of one layer."""
    vectors = dict(sorted(file.by_layer().items()))
    if 0 in vectors:
        raise VectorFileError(
            f"vector {vectors[0].vector_id} is of layer 0, and llama.cpp has no control vector there: export the others"
        )
    directions = {layer: np.ascontiguousarray(vector.direction, np.float32) for layer, vector in vectors.items()}
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_string(HINT, file.model.architecture)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
    for name, value in glp.block(file.operation, directions).items():
        writer.add_key_value(name, value, _TYPES[type(value)])
    writer.add_string(FORMAT, file.metadata())
    for layer, direction in directions.items():
        writer.add_tensor(f"direction.{layer}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> VectorFile | Tensors:
    """The file as it was written; its directions where another tool wrote it. Raises VectorFileError."""
    fields, tensors = _contents(checked_file(path, VectorFileError, MAX_VECTORS_FILE))
    directions: dict[int, np.ndarray] = {}
    left_out = []
    for name, values in tensors.items():
        if _SUBSPACE.fullmatch(name):
            raise VectorFileError(f"{path} has {name}, a second direction of one layer: only one is applied here")
        if (match := _DIRECTION.fullmatch(name)) is None:
            left_out.append(shortened(name, 80))
        elif int(match[1]) in directions:
            raise VectorFileError(f"{path} has two tensors for layer {int(match[1])}: it is no control vector")
        else:
            directions[int(match[1])] = values
    if not directions:
        raise VectorFileError(f"{path} has no tensor direction.N: it is no control vector")
    operation = glp.declared(fields, directions, path)
    if FORMAT in fields:
        file = restored(str(fields[FORMAT]), lambda _, layer: directions.get(layer), path)
        return dataclasses.replace(file, operation=operation)
    named = {f"direction.{layer}": values for layer, values in directions.items()}
    notes = (f"{', '.join(left_out[:SHOWN])}: no direction.N, and left out",) if left_out else ()
    hint = fields.get(HINT)
    return Tensors(named, operation, glp.alpha(fields, path), notes, hint if isinstance(hint, str) else None)


class _Reader(gguf.GGUFReader):
    """gguf's reader, which takes a header's own word for how long its lists are: an array of 2**60 numbers is counted.

    Here what reaches beyond the file's end is an error, and so are more values than files of vectors have.
    """

    def __init__(self, path: Path) -> None:
        self._values = 0
        super().__init__(path)

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> np.ndarray:
        """Some values of the file. Raises ValueError where they are not there, or have become very many."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise ValueError(f"its header has more than {MAX_VALUES:,} values")
        if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError("its header speaks of more bytes than there are")
        found: np.ndarray = super()._get(offset, dtype, count, override_order)
        return found


def _contents(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata that says what the vectors are for, and the tensors in float32. Raises VectorFileError."""
    try:
        reader = _Reader(path)
        fields = {
            name: field.contents()
            for name, field in reader.fields.items()
            if name.startswith(glp.PREFIX) or name in (FORMAT, HINT)
        }
        tensors = {}
        for tensor in reader.tensors:
            values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
            tensors[tensor.name] = values.reshape(tuple(int(n) for n in reversed(tensor.shape)))
    except OSError as error:
        raise VectorFileError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever the reader meets in bytes that are not what they say
        said = shortened(str(error), 200) or type(error).__name__
        raise VectorFileError(f"{path} is damaged, or no GGUF file of vectors ({said}): export it again") from error
    if len(tensors) != len(reader.tensors):
        raise VectorFileError(f"{path} has two tensors of one name: it is no control vector")
    return fields, tensors
