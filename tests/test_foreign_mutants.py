"""Files of other tools with bytes exchanged, cut off or repeated: read, or refused with one error at once."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from steering_core.exports import pytorch
from steering_core.exports.files import FORMS
from steering_core.exports.foreign import ForeignReading, Tensors, layers_of
from steering_core.exports.tensor_names import Convention
from tests.foreign_files import GLP, RANDOM, UNIT, archive, written
from tests.mutants import MODEL, MUTANTS, WIDTH, check

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
