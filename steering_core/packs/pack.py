"""`pack`: vectors as a folder to share, with a card, a chart and the hash of every file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from steering_core.exports.files import export_vectors, model_of
from steering_core.exports.vector_file import CONVENTION
from steering_core.foundation.errors import VectorError, VectorFileError
from steering_core.foundation.json_values import plain
from steering_core.foundation.keys import file_sha256
from steering_core.foundation.output_files import new_folder
from steering_core.foundation.version import VERSION
from steering_core.models.shared_names import shared_identity
from steering_core.packs.card import TAG, card
from steering_core.packs.evidence import evidence, picture
from steering_core.reports.charts.render import png
from steering_core.store import Store
from steering_core.vectors.allowed_names import may_be_a_name
from steering_core.vectors.vector import Vector

FORMAT, FORMAT_VERSION = "steerflow-pack", 1
ABOUT, VECTORS, CARD, README, CHART = "pack.json", "vectors.safetensors", "card.md", "README.md", "chart.png"


def pack(
    store: Store,
    vectors: Sequence[Vector],
    out: str | os.PathLike[str],
    name: str | None = None,
    licence: str | None = None,
) -> str:
    """Write `vectors`, of one model and concept of the store, one a layer, to the new folder `out`; their name there.

    The name is `name`, or what somebody called them, or their concept and method. The card is there twice: `card.md`,
    and `README.md`, which the hub shows and reads tags from. Raises VectorFileError where `out` is not free, and
    VectorError for vectors of several models or concepts, or for a name that vectors cannot have.
    """
    if len({vector.model_id for vector in vectors}) != 1 or len({vector.concept_id for vector in vectors}) != 1:
        raise VectorError("a pack holds vectors of one model and one concept: name one's with --model, or by its key")
    name = _called(store, vectors[0]) if name is None else name
    if not may_be_a_name(name):
        raise VectorError(f"{name!r} cannot be what a pack calls its vectors: give another one with --name")
    identity = model_of(store, vectors[0])
    found, drawn = evidence(store, vectors, identity.name), picture(store, vectors)
    shared = shared_identity(identity)
    with new_folder(Path(out), VectorFileError) as folder:
        export_vectors(store, vectors, folder / VECTORS)
        if drawn:
            (folder / CHART).write_bytes(png(drawn[0]))
        text = card(name, identity, vectors, found, licence, (CHART, drawn[1]) if drawn else None)
        for file in (CARD, README):
            (folder / file).write_text(text, encoding="utf-8")
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "steerflow": VERSION,
            "name": name,
            "tags": [TAG],
            "model": shared.name,
            "model_id": shared.model_id,
            "architecture": shared.architecture,
            "layers": CONVENTION,
            "licence": licence,
            "evidence": found.as_json(),
            "files": {file.name: file_sha256(file) for file in sorted(folder.iterdir())},
        }
        (folder / ABOUT).write_text(json.dumps(plain(about), ensure_ascii=False, indent=1), encoding="utf-8")
    return name


def _called(store: Store, vector: Vector) -> str:
    """What somebody called a vector, or its concept and method; the method of one that was never saved."""
    rows = store.rows("SELECT name, concept FROM vectors WHERE vector_id = ?", [vector.vector_id])
    row = rows[0] if rows else {"name": None, "concept": None}
    return str(row["name"] or "-".join(filter(None, (row["concept"], vector.method))))
