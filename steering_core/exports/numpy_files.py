"""Vectors as NumPy files: `.npy` is one array, (layers, D) with zeros where there is no vector, `.npz` is `layer.N`.

Arrays are taken out of the bytes that are there; a pickle, which an array of objects is, is never opened.
"""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from steering_core.exports.foreign import Tensors
from steering_core.exports.vector_file import VectorFile
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, file_bytes
from steering_core.foundation.validation import shortened

MAX_DIMENSIONS = 32  # NumPy has 64
MAX_UNPACKED = 256 << 20  # bytes beyond four times the file that a compressed .npz may become


def write_array(path: Path, file: VectorFile) -> None:
    """Write `file` to `path` as one array (layers, D), one vector a layer. Directions alone are kept."""
    rows = np.zeros((file.model.n_layers, file.model.width), np.float32)
    for layer, vector in file.by_layer().items():
        rows[layer] = vector.direction
    with path.open("wb") as handle:
        np.save(handle, rows, allow_pickle=False)


def write_archive(path: Path, file: VectorFile) -> None:
    """Write `file` to `path` as arrays called `layer.N`, one vector a layer. Directions alone are kept."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for layer, vector in sorted(file.by_layer().items()):
            array = io.BytesIO()
            np.save(array, np.ascontiguousarray(vector.direction, "<f4"), allow_pickle=False)
            archive.writestr(f"layer.{layer}.npy", array.getvalue())


def read_array(path: Path) -> Tensors:
    """The array of a .npy file, without a name. Raises VectorFileError."""
    return Tensors({"": _array(file_bytes(path, VectorFileError, MAX_VECTORS_FILE), path)})


def read_archive(path: Path) -> Tensors:
    """The arrays of a .npz file by name. Raises VectorFileError."""
    data = file_bytes(path, VectorFileError, MAX_VECTORS_FILE)
    try:
        arrays = _members(data)
    except Exception as error:  # whatever the archive's reader meets in bytes that are not what they say
        raise VectorFileError(f"{path} cannot be read as .npz ({shortened(str(error), 200)}): save it again") from error
    return Tensors({name.removesuffix(".npy"): _array(array, path) for name, array in arrays.items()})


def _members(data: bytes) -> dict[str, bytes]:
    """The archive's files by name. Raises ValueError for two of one name, and where they unpack to too much."""
    left = 4 * len(data) + MAX_UNPACKED
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for about in archive.infolist():
            with archive.open(about) as member:
                found_here = member.read(left + 1)
            left -= len(found_here)
            if left < 0:
                raise ValueError("it unpacks to far more than its size")
            if about.filename in found:
                raise ValueError(f"it has two arrays called {about.filename}")
            found[about.filename] = found_here
    return found


def _array(data: bytes, path: Path) -> np.ndarray:
    """The array that the bytes of a .npy file hold, of floats. Raises VectorFileError."""
    try:
        handle = io.BytesIO(data)
        version = npy.read_magic(handle)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"its version {version} is unknown")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(handle)
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"it has {len(shape)} dimensions")
        count = math.prod(shape)
        body = memoryview(data)[handle.tell() :]
    except Exception as error:  # whatever the header's reader meets in bytes that are not what they say
        raise VectorFileError(f"{path} cannot be read as .npy ({shortened(str(error), 200)}): save it again") from error
    if dtype.kind != "f" or dtype.itemsize > 8:
        pickled = "pickled objects, which could run code" if dtype.hasobject else f"numbers of the type {dtype}"
        raise VectorFileError(
            f"{path} holds {pickled}, and vectors are float16, float32 or float64: "
            "save it with np.save(FILE, np.asarray(vector, np.float32))"
        )
    if min(shape, default=1) < 1 or len(body) != count * dtype.itemsize:
        raise VectorFileError(
            f"{path} is empty or damaged: {shortened(str(shape), 80)} of {dtype} is not {len(body)} bytes; save it "
            "again"
        )
    return np.frombuffer(body, dtype, count).reshape(shape, order="F" if fortran else "C")
