"""Files of other tools with bytes exchanged, cut off or repeated: read, or refused with one error at once."""

import io
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from steering_core.exports import pytorch
from steering_core.exports.files import FORMS
from steering_core.exports.foreign import ForeignReading, Tensors, layers_of
from steering_core.exports.tensor_names import Convention
from steering_core.foundation.errors import VectorFileError
from tests.foreign_files import GLP, RANDOM, UNIT, archive, written
from tests.mutants import MODEL, MUTANTS, SECONDS, WIDTH, check, little_memory

ROWS = RANDOM[0, : MODEL.n_layers]


def _npz(path: Path) -> None:
    np.savez_compressed(path, **{"layer.1": ROWS[1], "layer.2": ROWS[2]})


def _npy(path: Path) -> None:
    array = io.BytesIO()
    np.save(array, RANDOM[:, : MODEL.n_layers])
    path.write_bytes(array.getvalue())


def _pt(path: Path) -> None:
    tensors = (pytorch._text(name) + pytorch._tensor(0, WIDTH) for name in ("2", "blocks.2.hook_resid_pre"))
    archive(path, b"}(" + b"".join(tensors) + b"u", ROWS[0].tobytes())


MADE: dict[str, Callable[[Path], object]] = {
    ".gguf": lambda path: written(path, {"direction.1": UNIT[0], "direction.2": UNIT[1]}, {**GLP, "glp.mode": "add"}),
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _pt,
    ".svec": lambda path: path.write_text(json.dumps({"directions": {"1": ROWS[1].tolist(), "3": ROWS[3].tolist()}})),
    ".safetensors": lambda path: path.write_bytes(save({"resid_post.1": ROWS[1], "resid_pre.3": ROWS[3]})),
}


@pytest.mark.parametrize("ending", MADE)
def test_mutants_are_read_or_refused(ending: str, tmp_path: Path) -> None:
    reading = ForeignReading(position=-1, convention=Convention.RESID_PRE) if ending == ".npy" else ForeignReading()

    def through(path: Path) -> None:
        tensors = FORMS[ending].read(path)
        assert isinstance(tensors, Tensors)
        for layer, direction in layers_of(tensors, path, MODEL, reading).items():
            assert 0 <= layer < MODEL.n_layers
            assert direction.shape == (WIDTH,)
            assert np.isfinite(direction).all()

    path = tmp_path / f"vectors{ending}"
    MADE[ending](path)
    through(path)
    assert 0 < check(through, path.read_bytes(), path, MUTANTS) < MUTANTS


def _gguf_with_array(kind: int, length: int) -> bytes:
    """A GGUF file whose only field is an array that is said to have so many values of that kind."""
    name = b"general.tags"
    field = struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", 9, kind, length)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field


def _safetensors_of(n_dimensions: int) -> bytes:
    shape = [*([1] * (n_dimensions - 1)), WIDTH]
    header = json.dumps({"layer.1": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * WIDTH]}}).encode()
    return struct.pack("<Q", len(header)) + header + ROWS[1].tobytes()


def _npy_of(n_dimensions: int) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * (n_dimensions - 1)}{WIDTH}), }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + ROWS[1].tobytes()


UINT8, UINT32 = 0, 4
LYING = {
    "an array of more than any machine holds": (".gguf", _gguf_with_array(UINT32, 1 << 60), "more bytes than there"),
    "an array of all that is there, by byte": (".gguf", _gguf_with_array(UINT8, 1 << 20) + bytes(1 << 20), "values"),
    "a field of fields of fields": (".gguf", _gguf_with_array(9, 1) + struct.pack("<IQ", 9, 1) * 5_000, "recursion"),
    "dimensions that NumPy lacks": (".safetensors", _safetensors_of(100), "maximum supported dimension"),
    "as many in an array": (".npy", _npy_of(66), "66 dimensions"),
    "a number that no float holds": (".svec", b'{"directions": {"1": [' + b"9" * 400 + b"]}}", "beyond float64"),
}


@pytest.mark.parametrize("case", LYING)
def test_a_header_that_promises_too_much_is_refused_at_once(case: str, tmp_path: Path) -> None:
    ending, data, said = LYING[case]
    (tmp_path / f"vectors{ending}").write_bytes(data)
    begun = time.process_time()
    with little_memory(), pytest.raises(VectorFileError, match=said):
        FORMS[ending].read(tmp_path / f"vectors{ending}")
    assert time.process_time() - begun < SECONDS
