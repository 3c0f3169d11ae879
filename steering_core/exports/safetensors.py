"""Vectors as safetensors: `layer.N`, float32, with everything that is known of them in the header."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from steering_core.exports.foreign import Tensors
from steering_core.exports.vector_file import FORMAT, VectorFile, restored
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, checked_file, file_bytes


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`. Tensors are called `layer.N`, or by their key where several share a layer."""
    vectors = [entry.vector for entry in file.entries]
    n_at = Counter(vector.layer for vector in vectors)
    tensors = {
        f"layer.{vector.layer}" if n_at[vector.layer] == 1 else vector.vector_id: np.ascontiguousarray(vector.direction)
        for vector in vectors
    }
    path.write_bytes(save(tensors, metadata={FORMAT: file.metadata()}))


def read(path: Path) -> VectorFile | Tensors:
    """The file as it was written; the tensors by name where another tool wrote it. Raises VectorFileError."""
    checked_file(path, VectorFileError, MAX_VECTORS_FILE)
    try:
        with safe_open(path, framework="numpy") as handle:
            names = list(handle.keys())
            dtypes = {name: handle.get_slice(name).get_dtype() for name in names}
            _check_dtypes(dtypes, path)
            tensors = {name: handle.get_tensor(name) for name in names if dtypes[name] != "BF16"}
            metadata = handle.metadata() or {}
        if "BF16" in dtypes.values():
            tensors |= _bfloat16(path)
    except (OSError, SafetensorError, ValueError) as error:  # ValueError: more dimensions than NumPy has
        raise VectorFileError(f"{path} cannot be read as safetensors: {error}") from error
    if FORMAT not in metadata:
        return Tensors({name: tensors[name] for name in names})
    return restored(metadata[FORMAT], lambda key, layer: tensors.get(key, tensors.get(f"layer.{layer}")), path)


def _check_dtypes(dtypes: dict[str, Any], path: Path) -> None:
    for name, dtype in dtypes.items():
        if dtype not in ("F64", "F32", "F16", "BF16"):
            raise VectorFileError(
                f"the tensor {name!r} of {path} holds {dtype}: vectors are F64, F32, F16 or BF16; save it as one"
            )


def _bfloat16(path: Path) -> dict[str, np.ndarray]:
    """The bfloat16 tensors, as float32: NumPy has no such numbers, and they are the upper half of a float32."""
    return {
        name: (np.frombuffer(about["data"], "<u2").astype("<u4") << 16).view("<f4").reshape(about["shape"])
        for name, about in deserialize(file_bytes(path, VectorFileError, MAX_VECTORS_FILE))  # type: ignore[no-untyped-call]
        if about["dtype"] == "BF16"
    }
