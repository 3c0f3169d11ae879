"""Vectors between the store and files: the form is the file's ending."""

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_core.exports import gguf, numpy_files, pytorch, safetensors, svec
from steering_core.exports.foreign import ForeignReading, Tensors, check_operation, layers_of
from steering_core.exports.vector_file import Entry, FileOperation, VectorFile, imported
from steering_core.foundation.errors import VectorError, VectorFileError
from steering_core.foundation.output_files import new_file
from steering_core.models import Model, ModelIdentity
from steering_core.store import Store
from steering_core.vectors import algebra, saving
from steering_core.vectors.allowed_names import may_be_a_name
from steering_core.vectors.norms import residual_norms
from steering_core.vectors.vector import PROJECT, Vector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileForm:
    """How one form is written and read."""

    write: Callable[[Path, VectorFile], None]
    read: Callable[[Path], VectorFile | Tensors]


_PYTORCH = FileForm(pytorch.write, pytorch.read)
FORMS = {
    ".safetensors": FileForm(safetensors.write, safetensors.read),
    ".gguf": FileForm(gguf.write, gguf.read),
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".npy": FileForm(numpy_files.write_array, numpy_files.read_array),
    ".npz": FileForm(numpy_files.write_archive, numpy_files.read_archive),
    ".svec": FileForm(svec.write, svec.read),
}
_PICKLES = (".pkl", ".pickle", ".joblib")


def export_vectors(
    store: Store, vectors: Sequence[Vector], path: Path, operation: FileOperation = FileOperation.ADD
) -> list[Vector]:
    """Write `vectors`, all of one model of the store, to `path`; those that were written.

    An older file is replaced when the new one is whole. GGUF has no layer 0: it is left out of several, with a line
    that says so. Only GGUF can declare that vectors are to be projected out, and holds them at length 1 then. Raises
    VectorFileError where the form cannot hold them or the folder cannot be written.
    """
    form = _form(path)
    if len({v.model_id for v in vectors}) != 1:
        raise VectorFileError(
            f"{len(vectors)} vectors of several models cannot share a file: name one model's with --model"
        )
    model = model_of(store, vectors[0])
    check_purpose(vectors, path, operation)
    vectors = _as_the_form_has_them(vectors, path, operation)
    file = VectorFile(model, _entries(store, vectors), operation)
    with new_file(path, VectorFileError) as temporary:
        form.write(temporary, file)
    return list(vectors)


def model_of(store: Store, vector: Vector) -> ModelIdentity:
    """The model of a vector. Raises VectorFileError where the store does not know it."""
    rows = store.rows("SELECT * FROM raw.models WHERE model_id = ?", [vector.model_id])
    if not rows:
        raise VectorFileError(
            f"{vector.vector_id}: this store does not know its model; save the vector there first, with "
            "steering_core.save_vector"
        )
    return ModelIdentity(**rows[0])


def check_purpose(vectors: Sequence[Vector], path: Path, operation: FileOperation) -> None:
    """Raise VectorFileError where directions to take out of the stream would go to a file whose reader adds them.

    A safetensors file keeps what they are for, and no other form but GGUF can say it.
    """
    out = next((v for v in vectors if v.lineage.get("operation") == PROJECT), None)
    if out is not None and operation is FileOperation.ADD and path.suffix.lower() != ".safetensors":
        raise VectorFileError(
            f"{out.vector_id} is a direction to take out of the stream, and what reads {path} would add it: export it "
            "to FILE.gguf with --operation project, or to FILE.safetensors. To add it all the same, make a vector of "
            f"it: steer vectors blend {out.vector_id} --name NEW"
        )


def _as_the_form_has_them(vectors: Sequence[Vector], path: Path, operation: FileOperation) -> Sequence[Vector]:
    """The vectors that the form can hold; those that are projected out have length 1."""
    if operation is FileOperation.PROJECT:
        if path.suffix.lower() != ".gguf":
            raise VectorFileError(f"{path} cannot say that its vectors are projected out: export them to FILE.gguf")
        vectors = [algebra.to_project(vector) for vector in vectors]
    if path.suffix.lower() == ".gguf" and any(v.layer == 0 for v in vectors) and any(v.layer for v in vectors):
        log.warning("%s: layer 0 is left out, because llama.cpp has no control vector there", path)
        vectors = [vector for vector in vectors if vector.layer]
    return vectors


def import_vectors(
    store: Store, path: Path, model: Model | None = None, name: str | None = None, reading: ForeignReading | None = None
) -> list[Vector]:
    """Have the store hold the vectors of a file, under `name` where one is given; those vectors.

    A file that steerflow wrote brings its model, names and tags with it; one that another tool wrote needs `model`, is
    read as `reading` says, and goes by the file's name unless another is given. What of it is left out is logged.
    Raises VectorFileError, VectorMismatch.
    """
    reading = reading or ForeignReading()
    read = _form(path).read(path)
    if isinstance(read, VectorFile):
        _check_own(read, path, reading)
        file = read
    elif model is None:
        raise VectorFileError(f"{path} does not say which model its vectors are for: name it with --model")
    else:
        file = _of_model(store, read, path, model, reading)
        name = name or _name_of(path)
    if model:
        for entry in file.entries:
            entry.vector.check(model.identity)
    store.append("models", [dataclasses.asdict(file.model)])
    prompt_ids = {entry.vector.vector_id: entry.prompt_ids for entry in file.entries}
    saved = saving.save(store, [entry.vector for entry in file.entries], name, prompt_ids)
    _keep_tags(store, file.entries, saved)
    if name is None:
        _keep_names(store, file.entries, saved)
    if reading.operation is FileOperation.PROJECT:
        saving.tag(store, saved, str(FileOperation.PROJECT))
        log.warning("%s: these are to be projected out: steer with ablate(NAME), not with NAME", path)
    return saved


def _of_model(store: Store, tensors: Tensors, path: Path, model: Model, reading: ForeignReading) -> VectorFile:
    """What another tool wrote, as vectors of `model`."""
    directions = layers_of(tensors, path, model.identity, reading)
    declared: dict[str, Any] = {}
    if tensors.operation is FileOperation.PROJECT:
        declared = {"operation": str(tensors.operation), "alpha": tensors.alpha}
    return imported(directions, path.name, model.identity, residual_norms(store, model, list(directions)), declared)


def _check_own(file: VectorFile, path: Path, reading: ForeignReading) -> None:
    """Raise VectorFileError for options that our own files answer, and for an operation that they do not have."""
    why = f"{path} is a file of steerflow and says this itself"
    reading.check_without("tensor", "layer", "position", "convention", why=why)
    check_operation(file.operation, path, reading)


def _keep_tags(store: Store, entries: Sequence[Entry], saved: Sequence[Vector]) -> None:
    """Give the saved vectors the tags that they had when they were exported."""
    for entry, vector in zip(entries, saved, strict=True):
        for tag in entry.tags:
            saving.tag(store, [vector], tag)


def _keep_names(store: Store, entries: Sequence[Entry], saved: Sequence[Vector]) -> None:
    """Give the saved vectors the names that they had when they were exported."""
    by_name: dict[str, list[Vector]] = {}
    for entry, vector in zip(entries, saved, strict=True):
        if entry.name:
            by_name.setdefault(entry.name, []).append(vector)
    for name, vectors in sorted(by_name.items()):
        saving.save(store, vectors, name)


def _entries(store: Store, vectors: Sequence[Vector]) -> tuple[Entry, ...]:
    """The vectors with what the store knows of them: concept, name, tags and prompts; nothing of unsaved ones."""
    rows = store.rows(
        "SELECT vector_id, c.name AS concept, v.name, coalesce(v.tags, []) AS tags, r.prompt_ids "
        "FROM raw.vectors r LEFT JOIN vectors v USING (vector_id) "
        "LEFT JOIN raw.concepts c ON c.concept_id = r.concept_id WHERE list_contains(?, vector_id)",
        [[vector.vector_id for vector in vectors]],
    )
    known = {row["vector_id"]: row for row in rows}
    entries = []
    for vector in vectors:
        row = known.get(vector.vector_id)
        told = (row["concept"], row["name"], tuple(row["tags"]), tuple(row["prompt_ids"])) if row else ()
        entries.append(Entry(vector, *told))
    return tuple(entries)


def _form(path: Path) -> FileForm:
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise VectorFileError(
            f"{path} is a pickle, which can run code and is not opened: save it with np.save(FILE, np.asarray(vector, "
            "np.float32)), and import that"
        )
    if suffix not in FORMS:
        raise VectorFileError(f"{path} is of no known form: vectors lie in files that end in {', '.join(FORMS)}")
    return FORMS[suffix]


def _name_of(path: Path) -> str:
    """The file's name as a vector's."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-.")
    if not may_be_a_name(name):
        raise VectorError(f"the file's name {path.name!r} cannot be the vectors' name: give one with --name")
    return name
