"""`VectorFile`: vectors with all that says what they are, in whichever form they lie on disk."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from steering_core.foundation.errors import VectorFileError
from steering_core.foundation.keys import content_key
from steering_core.foundation.version import VERSION
from steering_core.models import ModelIdentity
from steering_core.models.shared_names import shared_identity
from steering_core.vectors.vector import Vector

FORMAT = "steerflow-vectors"
FORMAT_VERSION = 1
CONVENTION = "resid_post: layer N is the output of 0-based block N, transformers' hidden_states[N + 1]"


class FileOperation(StrEnum):
    """What a file's vectors are for: to be added to the stream, or projected out of it (`ablate` here)."""

    ADD = "add"
    PROJECT = "project"


@dataclass(frozen=True)
class Entry:
    """One vector of a file: where it came from beyond what `Vector` knows."""

    vector: Vector
    concept: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    prompt_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class VectorFile:
    """Vectors of one model, for one operation. What another tool wrote gives tensors and no more: see `foreign`."""

    model: ModelIdentity
    entries: tuple[Entry, ...]
    operation: FileOperation = FileOperation.ADD

    def by_layer(self) -> dict[int, Vector]:
        """The vectors by layer. Raises VectorFileError where two share one, for forms that hold one a layer."""
        found: dict[int, Vector] = {}
        for entry in self.entries:
            layer = entry.vector.layer
            if layer in found:
                raise VectorFileError(
                    f"vectors {found[layer].vector_id} and {entry.vector.vector_id} are both of layer {layer}, and "
                    "this form has one vector a layer: name one method's vectors, or export safetensors"
                )
            found[layer] = entry.vector
        return found

    def metadata(self) -> str:
        """All but the directions, as JSON; `restored` reads it. A model in a folder goes by the folder's name."""
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "steerflow": VERSION,
            "layers": CONVENTION,
            "model": dataclasses.asdict(shared_identity(self.model)),
            "vectors": [_about(entry) for entry in self.entries],
        }
        return json.dumps(about, ensure_ascii=False)


def restored(metadata: str, direction_of: Callable[[str, int], np.ndarray | None], path: object) -> VectorFile:
    """The file whose `metadata` was read from `path`, bit for bit as it was written.

    `direction_of` gives what the file has for a vector_id and layer. Raises VectorFileError where that is nothing, or
    not what was written.
    """
    try:
        about = json.loads(metadata)
        if about["format_version"] > FORMAT_VERSION:
            raise VectorFileError(f"{path} was written by a later steerflow ({about['steerflow']}): upgrade to read it")
        model = ModelIdentity(**about["model"])
        entries = [_restored(model, known, direction_of, path) for known in about["vectors"]]
    except (ValueError, TypeError, KeyError) as error:
        raise VectorFileError(f"what {path} says of its vectors cannot be read ({error}): export it again") from error
    return VectorFile(model, tuple(entries))


def _restored(
    model: ModelIdentity, about: dict[str, Any], direction_of: Callable[[str, int], np.ndarray | None], path: object
) -> Entry:
    known = dict(about)
    direction = direction_of(known["vector_id"], known["layer"])
    if direction is None or digest(direction) != known.pop("digest"):
        raise VectorFileError(
            f"vector {known['vector_id']} in {path} is gone or was changed since it was exported: export it again"
        )
    concept, name = known.pop("concept"), known.pop("name")
    tags, prompt_ids = tuple(known.pop("tags")), tuple(known.pop("prompt_ids"))
    vector = Vector(**known, model_id=model.model_id, architecture=model.architecture, direction=direction)
    return Entry(vector, concept, name, tags, prompt_ids)


def imported(
    directions: dict[int, np.ndarray],
    source: str,
    model: ModelIdentity,
    residual_norms: dict[int, float],
    declared: dict[str, Any],
) -> VectorFile:
    """Directions (D,) float32 by layer, from `source`, as vectors of `model`; their lineage keeps what it declares."""
    entries = []
    for layer, direction in sorted(directions.items()):
        lineage = {"made": "imported", "from": source, "digest": digest(direction), **declared}
        vector = Vector(
            vector_id=content_key("vector", model.model_id, layer, lineage),
            model_id=model.model_id,
            concept_id=None,
            method="imported",
            layer=layer,
            residual_norm=residual_norms[layer],
            direction=direction,
            architecture=model.architecture,
            position="unknown",
            lineage=lineage,
        )
        entries.append(Entry(vector))
    return VectorFile(model, tuple(entries))


def digest(direction: np.ndarray) -> str:
    """Content key of a direction's float32 bytes."""
    return content_key("direction", np.ascontiguousarray(direction, "<f4").tobytes().hex())


def _about(entry: Entry) -> dict[str, Any]:
    left_out = ("direction", "model_id", "architecture", "recommended", "safe")  # the last two are a store's to say
    known = {f.name: getattr(entry.vector, f.name) for f in dataclasses.fields(Vector) if f.name not in left_out}
    more = {"concept": entry.concept, "name": entry.name, "tags": entry.tags, "prompt_ids": entry.prompt_ids}
    return {**known, **more, "digest": digest(entry.vector.direction)}
