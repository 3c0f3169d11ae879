"""Vectors between the store and files: the form is the file's ending."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.exports import gguf, pytorch, safetensors
from steering_core.exports.vector_file import Entry, VectorFile, foreign
from steering_core.foundation.errors import VectorError, VectorFileError
from steering_core.foundation.output_files import new_file
from steering_core.models import Model, ModelIdentity
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.norms import residual_norms
from steering_core.vectors.vector import Vector


@dataclass(frozen=True)
class Form:
    """How one form is written and read."""

    write: Callable[[Path, VectorFile], None]
    read: Callable[[Path], VectorFile | dict[int, np.ndarray]]


_PYTORCH = Form(pytorch.write, pytorch.read)
FORMS = {
    ".safetensors": Form(safetensors.write, safetensors.read),
    ".gguf": Form(gguf.write, gguf.read),
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
}


def export_vectors(store: Store, vectors: Sequence[Vector], path: Path) -> None:
    """Write `vectors`, all of one model of the store, to `path`; an older file is replaced when the new one is whole.

    Raises VectorFileError where the form cannot hold them or the folder cannot be written.
    """
    form = _form(path)
    ids = [v.vector_id for v in vectors]
    if len({v.model_id for v in vectors}) != 1:
        raise VectorFileError(
            f"{len(ids)} vectors of several models cannot share a file: name one model's with --model"
        )
    model = next(iter(store.rows("SELECT * FROM raw.models WHERE model_id = ?", [vectors[0].model_id])), None)
    if model is None:
        raise VectorFileError(
            f"{vectors[0].vector_id}: this store does not know its model; save the vector there first, with "
            "steering_core.save_vector"
        )
    rows = store.rows(
        "SELECT vector_id, c.name AS concept, coalesce(v.name, '') AS name, coalesce(v.tags, []) AS tags, r.prompt_ids "
        "FROM raw.vectors r LEFT JOIN vectors v USING (vector_id) "
        "LEFT JOIN raw.concepts c ON c.concept_id = r.concept_id WHERE list_contains(?, vector_id)",
        [ids],
    )
    known = {row["vector_id"]: row for row in rows}
    entries = tuple(_entry(vector, known.get(vector.vector_id)) for vector in vectors)
    with new_file(path, VectorFileError) as temporary:
        form.write(temporary, VectorFile(ModelIdentity(**model), entries))


def import_vectors(store: Store, path: Path, model: Model | None = None, name: str | None = None) -> list[Vector]:
    """Have the store hold the vectors of a file, under `name` where one is given; those vectors.

    A file that steerflow wrote brings its model, names and tags with it; one that another tool wrote needs `model`, and
    goes by the file's name unless another is given. Raises VectorFileError, VectorMismatch.
    """
    read = _form(path).read(path)
    if isinstance(read, VectorFile):
        file = read
    elif model is None:
        raise VectorFileError(f"{path} does not say which model its vectors are for: name it with --model")
    else:
        outside = [layer for layer in read if not 0 <= layer < model.identity.n_layers]
        norms = residual_norms(store, model, [layer for layer in read if layer not in outside])
        file = foreign(read, path.name, model.identity, norms | dict.fromkeys(outside, 0.0))
        name = name or _name_of(path)
    vectors = [entry.vector for entry in file.entries]
    if model:
        for vector in vectors:
            vector.check(model.identity)
    store.append("models", [dataclasses.asdict(file.model)])
    library.save(store, vectors, name, {e.vector.vector_id: e.prompt_ids for e in file.entries})
    _label(store, file, rename=name is None)
    return vectors


def _label(store: Store, file: VectorFile, rename: bool) -> None:
    """Give vectors the tags, and where nobody gave another name the names, that they had when they were exported."""
    for entry in file.entries:
        for label in entry.tags:
            library.tag(store, [entry.vector], label)
    for called in sorted({entry.name for entry in file.entries if entry.name and rename}):
        library.rename(store, [entry.vector for entry in file.entries if entry.name == called], called)


def _entry(vector: Vector, row: dict[str, Any] | None) -> Entry:
    if row is None:
        return Entry(vector)
    return Entry(vector, row["concept"], row["name"] or None, tuple(row["tags"]), tuple(row["prompt_ids"]))


def _form(path: Path) -> Form:
    if path.suffix not in FORMS:
        raise VectorFileError(f"{path} is of no known form: vectors lie in files that end in {', '.join(FORMS)}")
    return FORMS[path.suffix]


def _name_of(path: Path) -> str:
    """The file's name as a vector's."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-.")
    if not name or library.KEY.fullmatch(name) or name.isdecimal():
        raise VectorError(f"the file's name {path.name!r} cannot be the vectors' name: give one with --name")
    return name
