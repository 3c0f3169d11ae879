"""Vectors as PyTorch files in steering-vectors' form, written and read without PyTorch.

`SteeringVector(**torch.load("french.pt"))` is the vector there. Files of a pickled `SteeringVector`, of one tensor,
and of lists and dicts of tensors are read as well. A pickle can run code: only the few names that such a file needs are
let through.
"""

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.exports.foreign import SHOWN, Tensors
from steering_core.exports.vector_file import VectorFile
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.user_files import MAX_VECTORS_FILE, file_bytes
from steering_core.foundation.validation import shortened, shown

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
}
MAX_TENSORS = 100_000  # that dicts and lists may name
MAX_DEPTH = 4  # of dicts in dicts


def write(path: Path, file: VectorFile) -> None:
    """Write `file` to `path`, one vector a layer. What else is known of it is lost: safetensors and GGUF keep it."""
    directions = {layer: vector.direction.astype("<f4") for layer, vector in sorted(file.by_layer().items())}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("vectors/data.pkl", _pickled(directions))
        archive.writestr("vectors/byteorder", "little")
        for i, direction in enumerate(directions.values()):
            archive.writestr(f"vectors/data/{i}", direction.tobytes())
        archive.writestr("vectors/version", "3\n")


def read(path: Path) -> Tensors:
    """The tensors by name, those of a dict in a dict as `outer.inner`. Raises VectorFileError for anything else."""
    data = file_bytes(path, VectorFileError, MAX_VECTORS_FILE)
    if data[:1] == b"\x80":
        raise VectorFileError(
            f"{path} is a bare pickle, which can run code and is not opened: save it with torch.save of PyTorch 1.6 or "
            "later, or with np.save(FILE, np.asarray(vector, np.float32))"
        )
    found, said = _loaded(data)
    if said:  # the unpickler's own error stays behind: it would keep what is half read, and its callers, alive
        raise VectorFileError(f"{path} cannot be read as a PyTorch file of a steering vector ({said})")
    if isinstance(found, _Record):
        found = vars(found)
    if isinstance(found, dict) and "layer_activations" in found:
        kind = found.get("layer_type", "decoder_block")
        if kind != "decoder_block":
            raise VectorFileError(
                f"{path} is for {shown(kind)}: only decoder_block, the residual stream, can be steered here"
            )
        found = found["layer_activations"]
    try:
        named = _Collected(2 * len(data))
        named.collect("", found, 0)
    except _Refused as fault:
        raise VectorFileError(f"{path} {fault}: save the vectors alone") from None
    if not named.tensors:
        raise VectorFileError(f"{path} holds no tensors by layer: it is no steering vector")
    notes = (f"{', '.join(named.left_out[:SHOWN])}: no tensor, and left out",) if named.left_out else ()
    return Tensors(named.tensors, notes=notes)


class _Refused(Exception):
    """What a file has that no file of vectors has, as the rest of a sentence about the file."""


TOO_MANY = "names more tensors than it holds"
"""A pickle of a few bytes can name one tensor, or one dict, any number of times."""


class _Collected:
    """The tensors that a dict, a list or a tensor holds, by name, and the names of what is none.

    `room` is how many bytes lists may take that become one tensor.
    """

    def __init__(self, room: int) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        self.left_out: list[str] = []
        self._room, self._seen = room, 0

    def collect(self, name: str, found: Any, depth: int) -> None:
        """Take in what lies under `name`. Raises _Refused."""
        self._seen += 1
        if self._seen > MAX_TENSORS:
            raise _Refused(TOO_MANY)
        if depth > MAX_DEPTH:
            raise _Refused(f"has dicts in dicts, more than {MAX_DEPTH} deep")
        if isinstance(found, _Tensor):
            self._add(name, found.values)
        elif isinstance(found, dict):
            for key, value in found.items():
                if not isinstance(key, str | int) or isinstance(key, bool):
                    self.left_out.append(shown(key))
                    continue
                self.collect(f"{name}.{key}" if name else str(key), value, depth + 1)
        elif isinstance(found, list | tuple) and found and all(isinstance(row, _Tensor) for row in found):
            self._add_rows(name, [row.values for row in found])
        else:
            self.left_out.append(shortened(name, 80) or type(found).__name__)

    def _add_rows(self, name: str, rows: list[np.ndarray]) -> None:
        """A list of tensors of one shape is one tensor, as torch.stack makes it; others are numbered."""
        self._room -= sum(row.nbytes for row in rows)
        if self._room < 0 or len(rows) > MAX_TENSORS:
            raise _Refused(TOO_MANY)
        if len({row.shape for row in rows}) == 1:
            self._add(name, np.stack(rows))
        else:
            for i, row in enumerate(rows):
                self._add(f"{name}.{i}" if name else str(i), row)

    def _add(self, name: str, values: np.ndarray) -> None:
        if name in self.tensors:
            raise _Refused(f"has two tensors called {shown(name)}")
        self.tensors[name] = values


def _loaded(data: bytes) -> tuple[Any, str]:
    """What the archive's pickle holds, and what is wrong with it, where something is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            return _TensorUnpickler(archive, index.removesuffix("data.pkl"), len(data)).load(), ""
    except Exception as error:  # noqa: BLE001  (whatever the unpickler meets in bytes that are not what they say)
        return None, shortened(f"{type(error).__name__}: {error}", 200)


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


@dataclass(frozen=True)
class _Tensor:
    """Stands for a tensor, and for a storage, which is one of one dimension. A pickle cannot change it."""

    values: np.ndarray

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it gives a tensor a state of its own")


# In Python: the unpickler in C leaks an error raised by `persistent_load`, and its frames.
class _TensorUnpickler(pickle._Unpickler):
    """Unpickles tensors as arrays, out of a PyTorch archive, and refuses every other name.

    Nothing is larger than the file's own bytes allow: entries are not compressed, as PyTorch writes them, a tensor has
    no more elements than its storage, and all of them together take no more than twice the file, for bfloat16.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str, size: int) -> None:
        self._archive, self._root, self._left = archive, root, 2 * size
        pickled = self._entry("data.pkl")
        _check_opcodes(pickled)
        super().__init__(io.BytesIO(pickled))

    def find_class(self, module: str, name: str) -> Any:
        """What a pickled name stands for here. Raises UnpicklingError for a name that a vector does not need."""
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuilt
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no steering vector needs")

    def persistent_load(self, reference: Any) -> _Tensor:
        """The values of one storage, (numel,)."""
        _, kind, key, _, length = reference
        dtype: np.dtype[Any] = _DTYPES[kind]
        data = self._entry(f"data/{key}")
        if not 0 <= length <= len(data) // dtype.itemsize:
            raise pickle.UnpicklingError(f"a storage of {length} numbers has {len(data)} bytes")
        values = np.frombuffer(data, dtype, length)
        if kind == "BFloat16Storage":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        return _Tensor(values)

    def _rebuilt(
        self, storage: _Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> _Tensor:
        """A tensor of a storage, offset, size and stride in elements."""
        values = storage.values
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset
        if min(offset, *size, *stride, 0) < 0 or last >= max(len(values), 1):
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        if (n := math.prod(size)) > len(values):
            raise pickle.UnpicklingError(f"a tensor of {n:,} numbers has a storage of {len(values):,}")
        self._left -= n * values.itemsize
        if self._left < 0:
            raise pickle.UnpicklingError("its tensors are larger than the file")
        steps = tuple(step * values.itemsize for step in stride)
        return _Tensor(np.lib.stride_tricks.as_strided(values[offset:], size, steps).copy())

    def _entry(self, name: str) -> bytes:
        """The bytes of one of the archive's files, whatever its name says of their number."""
        about = self._archive.getinfo(f"{self._root}{name}")
        if about.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"{name} is compressed, as PyTorch never writes it")
        return self._archive.read(about)


def _check_opcodes(pickled: bytes) -> None:
    """Raise UnpicklingError for what PyTorch's pickles never hold, such as a memo of billions of places."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in _OPCODES or (opcode.name == "LONG_BINPUT" and int(argument or 0) > len(pickled)):
            raise pickle.UnpicklingError(f"its pickle holds {opcode.name} {argument if argument is not None else ''}")


_OPCODES = frozenset(
    """PROTO STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE GLOBAL BINPUT LONG_BINPUT BINGET LONG_BINGET TUPLE TUPLE1 TUPLE2 TUPLE3 BINPERSID REDUCE NEWOBJ BUILD
    SETITEM SETITEMS APPEND APPENDS""".split()  # noqa: SIM905  (a list of them is one word a line)
)
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("steering_vectors.steering_vector", "SteeringVector"): _Record,
}
