"""GLP (GGUF Layer Projection), a block of metadata that says what a GGUF control vector is for.

llama.cpp adds every control vector, whatever it was made for. GLP's `glp.mode` declares `add` or `project`, and
`glp.hook_point` where; a reader refuses what it does not know. The specification is spec/GLP.md of
msuiche/weightless; version 1 of it is read and written.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.exports.vector_file import FileOperation
from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.validation import shown

SPEC_VERSION = 1  # of one direction a layer; 2 adds subspaces and strengths by layer
HOOK_POINT = "residual_stream_post_layer"  # resid_post here
PREFIX = "glp."


def declared(fields: Mapping[str, Any], directions: Mapping[int, np.ndarray], path: Path) -> FileOperation:
    """The operation that the metadata `fields` of a control vector declare; `add` where there is no GLP block.

    Raises VectorFileError for a mode, hook point, version or rank that is not known here, for direction.0, for tensors
    that are not those the block was written for, and in mode `project` for directions that are not of length 1.
    """
    glp = {name.removeprefix(PREFIX): value for name, value in fields.items() if name.startswith(PREFIX)}
    if not glp:
        return FileOperation.ADD
    mode = glp.get("mode", FileOperation.ADD)
    if mode not in tuple(FileOperation):
        raise _unknown(path, "mode", mode, " or ".join(FileOperation))
    for name, known in (("spec_version", SPEC_VERSION), ("rank", 1), ("hook_point", HOOK_POINT)):
        if glp.get(name, known) != known or isinstance(glp.get(name), bool):  # True == 1
            raise _unknown(path, name, glp[name], str(known))
    if scales := sorted({"dir_scales", "layer_scales"} & glp.keys()):
        raise VectorFileError(
            f"{path} has glp.{scales[0]}, strengths that are not applied here: export it with one alpha"
        )
    if 0 in directions:
        raise VectorFileError(
            f"{path} is a GLP file with direction.0, which its specification forbids: export it again"
        )
    _check_content(glp, directions, path)
    if mode == FileOperation.PROJECT:
        _check_lengths(directions, path)
    return FileOperation(mode)


def alpha(fields: Mapping[str, Any], path: Path) -> float | None:
    """`glp.alpha_default`, the strength of the vectors' measurements. Raises VectorFileError for no finite number."""
    found = fields.get(f"{PREFIX}alpha_default")
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not np.isfinite(found):
        raise _unknown(path, "alpha_default", found, "a finite number")
    return float(found)


def block(operation: FileOperation, directions: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """The metadata that declares `operation` for `directions` (D,) float32 by layer, in the order of writing."""
    return {
        "glp.mode": str(operation),
        "glp.spec_version": SPEC_VERSION,
        "glp.hook_point": HOOK_POINT,
        "glp.rank": 1,
        "glp.alpha_default": 1.0,
        "glp.layer_ids_zero_based": ",".join(map(str, directions)),
        "glp.content_sha256": _content(directions),
    }


def _check_content(glp: Mapping[str, Any], directions: Mapping[int, np.ndarray], path: Path) -> None:
    layers = ",".join(map(str, sorted(directions)))
    if glp.get("layer_ids_zero_based", layers) != layers:
        raise VectorFileError(
            f"{path} has directions of layers {layers}, and says that they are {shown(glp['layer_ids_zero_based'])} "
            "(glp.layer_ids_zero_based): export it again"
        )
    hashes = {_content(directions), _content(dict(sorted(directions.items())))}
    if "content_sha256" in glp and glp["content_sha256"] not in hashes:
        raise VectorFileError(f"{path} was changed since it was written (glp.content_sha256): export it again")


def _check_lengths(directions: Mapping[int, np.ndarray], path: Path) -> None:
    for layer, direction in directions.items():
        if not abs(float(np.linalg.norm(direction.astype(np.float64))) - 1) < 1e-3:
            raise VectorFileError(
                f"{path} declares glp.mode project, and direction.{layer} has not length 1, so that its strength is in "
                "doubt: export it again"
            )


def _content(directions: Mapping[int, np.ndarray]) -> str:
    """SHA-256 of the directions' float32 bytes, in hexadecimal."""
    content = hashlib.sha256()
    for direction in directions.values():
        content.update(np.ascontiguousarray(direction, "<f4").tobytes())
    return content.hexdigest()


def _unknown(path: Path, name: str, value: object, known: str) -> VectorFileError:
    return VectorFileError(
        f"{path} declares glp.{name} {shown(value)}, which is not known here ({known} is): what it says of its vectors "
        "cannot be followed, so nothing of it is read"
    )
