"""Vectors as GGUF control vectors, which llama.cpp (`--control-vector`) and repeng read.

`direction.N` is added to the output of llama.cpp's 0-based block N, so it holds our layer N. llama.cpp has no
direction.0, and leaves alone the layers that a file does not name.
"""

from pathlib import Path

import gguf
import numpy as np

from steering_core.exports.vector_file import FORMAT, VectorFile, restored
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, checked_file

ARCHITECTURE = "controlvector"


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`, one vector a layer. Raises VectorFileError for layer 0 or two vectors of one layer."""
    vectors = file.by_layer()
    if 0 in vectors:
        raise VectorFileError(
            f"vector {vectors[0].vector_id} is of layer 0, and llama.cpp has no control vector there: export the others"
        )
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", file.model.architecture)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
    writer.add_string(FORMAT, file.metadata())
    for layer, vector in sorted(vectors.items()):
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector.direction, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> VectorFile | dict[int, np.ndarray]:
    """The file as it was written; directions by layer where another tool wrote it. Raises VectorFileError."""
    checked_file(path, VectorFileError, MAX_VECTORS_FILE)
    try:
        reader = gguf.GGUFReader(path)
        tensors = {t.name: np.array(t.data, np.float32) for t in reader.tensors}
        field = reader.get_field(FORMAT)
        metadata = None if field is None else str(field.contents())
    except OSError as error:
        raise VectorFileError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever the reader meets in bytes that are not what they say
        raise VectorFileError(f"{path} is damaged, or no GGUF file: export it again") from error
    directions = {_layer(name, path): values for name, values in tensors.items()}
    if not directions:
        raise VectorFileError(f"{path} has no tensor direction.N: it is no control vector")
    if metadata is None:
        return directions
    return restored(metadata, lambda _, layer: directions.get(layer), path)


def _layer(name: str, path: Path) -> int:
    kind, _, layer = name.partition(".")
    if kind != "direction" or not layer.isdecimal():
        raise VectorFileError(f"the tensor {name!r} of {path} is no direction.N: it is no control vector")
    return int(layer)
