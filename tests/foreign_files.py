"""Vector files of other tools, written by hand."""

import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.mutants import MODEL, WIDTH

UNIT = np.eye(32, dtype=np.float32)
GLP: dict[str, Any] = {
    "glp.mode": "project",
    "glp.spec_version": 1,
    "glp.hook_point": "residual_stream_post_layer",
    "glp.alpha_default": 4.0,
}
LAYERS = MODEL.n_layers  # 4
RANDOM = np.random.default_rng(3).standard_normal((3, LAYERS + 1, WIDTH)).astype(np.float32)


def written(path: Path, tensors: dict[str, np.ndarray], fields: dict[str, Any] | None = None) -> Path:
    """A control vector with more metadata."""
    types = {str: gguf.GGUFValueType.STRING, int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32}
    writer = gguf.GGUFWriter(path, "controlvector")
    for name, value in (fields or {}).items():
        writer.add_key_value(name, value, types[type(value)])
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def archive(path: Path, body: bytes, storage: bytes) -> Path:
    """A PyTorch file of a pickle and one storage of float32."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("v/data.pkl", b"\x80\x02" + body + b".")
        made.writestr("v/data/0", storage)
    return path
