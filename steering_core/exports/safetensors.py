"""Vectors as safetensors: `layer.N`, float32, with everything that is known of them in the header."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from steering_core.exports.vector_file import FORMAT, VectorFile, restored
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, checked_file


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`. Tensors are called `layer.N`, or by their key where several share a layer."""
    layers = [entry.vector.layer for entry in file.entries]
    names = {
        e.vector.vector_id: f"layer.{e.vector.layer}" if layers.count(e.vector.layer) == 1 else e.vector.vector_id
        for e in file.entries
    }
    tensors = {names[e.vector.vector_id]: np.ascontiguousarray(e.vector.direction) for e in file.entries}
    path.write_bytes(save(tensors, metadata={FORMAT: file.metadata()}))


def read(path: Path) -> VectorFile | dict[int, np.ndarray]:
    """The file as it was written; directions by layer where another tool wrote tensors called `layer.N`, or N alone.

    Raises VectorFileError for a file that is neither.
    """
    checked_file(path, VectorFileError, MAX_VECTORS_FILE)
    try:
        with safe_open(path, framework="numpy") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  (no mapping)
            metadata = handle.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise VectorFileError(f"{path} cannot be read as safetensors: {error}") from error
    if FORMAT not in metadata:
        return {_layer(name, path): tensor for name, tensor in tensors.items()}
    return restored(metadata[FORMAT], lambda key, layer: tensors.get(key, tensors.get(f"layer.{layer}")), path)


def _layer(name: str, path: Path) -> int:
    last = name.rpartition(".")[2]
    if not last.isdecimal():
        raise VectorFileError(f"the tensor {name!r} of {path} names no layer: call it layer.N")
    return int(last)
