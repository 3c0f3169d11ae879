"""Vectors as PyTorch files in steering-vectors' form, written and read without PyTorch.

`SteeringVector(**torch.load("french.pt"))` is the vector there. Files of a pickled `SteeringVector`, or of a dict of
tensors by layer, are read as well. A pickle can run code: only the few names that such a file needs are let through.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.errors import VectorFileError
from steering_core.exports.vector_file import VectorFile

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
}


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`, one vector a layer. What else is known of it is lost: safetensors and GGUF keep it."""
    directions = {layer: vector.direction.astype("<f4") for layer, vector in sorted(file.by_layer().items())}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("vectors/data.pkl", _pickled(directions))
        archive.writestr("vectors/byteorder", "little")
        for i, direction in enumerate(directions.values()):
            archive.writestr(f"vectors/data/{i}", direction.tobytes())
        archive.writestr("vectors/version", "3\n")


def read(path: Path) -> dict[int, np.ndarray]:
    """Directions (D,) float32 by layer. Raises VectorFileError for a file of anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            found = _Reader(archive, index.removesuffix("data.pkl")).load()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise VectorFileError(f"{path} cannot be read as a PyTorch file of a steering vector: {error}") from error
    if isinstance(found, _Record):
        found = found.__dict__
    layers = found.get("layer_activations", found) if isinstance(found, dict) else None
    if not layers or not all(isinstance(k, int) and isinstance(v, np.ndarray) for k, v in layers.items()):
        raise VectorFileError(f"{path} holds no tensors by layer: it is no steering vector")
    kind = found.get("layer_type", "decoder_block")
    if kind != "decoder_block":
        raise VectorFileError(f"{path} is for {kind!r}: only decoder_block, the residual stream, can be steered here")
    return {layer: direction.astype(np.float32).reshape(-1) for layer, direction in layers.items()}


def _pickled(directions: dict[int, np.ndarray]) -> bytes:
    """The pickle of {"layer_activations": {layer: tensor}, "layer_type": "decoder_block"}, protocol 2."""
    tensors = b"".join(_int(n) + _tensor(i, len(d)) for i, (n, d) in enumerate(directions.items()))
    layers = b"}(" + tensors + b"u"
    return b"\x80\x02}(" + _text("layer_activations") + layers + _text("layer_type") + _text("decoder_block") + b"u."


def _tensor(storage: int, length: int) -> bytes:
    """torch._utils._rebuild_tensor_v2(storage, offset 0, (length,), stride (1,), no gradient, no hooks)."""
    reference = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(str(storage)) + _text("cpu") + _int(length)
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + reference + b"tQ" + _int(0) + _int(length) + b"\x85" + _int(1) + b"\x85" + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"tR"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


class _Record:
    """Stands for a pickled SteeringVector."""

    def __init__(self) -> None:
        self.layer_activations: dict[int, np.ndarray] = {}
        self.layer_type = "decoder_block"


class _Reader(pickle.Unpickler):
    """Unpickles tensors as arrays, out of a PyTorch archive, and refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """What a pickled name stands for here. Raises UnpicklingError for a name that a vector does not need."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no steering vector needs")

    def persistent_load(self, reference: Any) -> np.ndarray:
        """The values of one storage, (numel,)."""
        _, dtype, key, _, length = reference
        values = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype, length)
        if dtype == np.dtype("<u2"):  # bfloat16: the upper half of a float32
            return (values.astype("<u4") << 16).view("<f4")
        return values


def _rebuilt(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A tensor of a storage, offset, size and stride in elements."""
    steps = tuple(step * storage.itemsize for step in stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset
    if offset < 0 or min(stride, default=1) < 0 or last >= max(len(storage), 1):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("collections", "OrderedDict"): OrderedDict,
    ("steering_vectors.steering_vector", "SteeringVector"): _Record,
}
