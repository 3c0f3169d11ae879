"""`unpack`: the vectors of a pack into the library, after every hash and the model were checked. No code is run."""

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from steering_core.exports import safetensors
from steering_core.exports.files import import_vectors
from steering_core.exports.vector_file import VectorFile
from steering_core.foundation.bounds import MAX_NAME, Within
from steering_core.foundation.errors import VectorFileError, VectorMismatch
from steering_core.foundation.keys import file_sha256
from steering_core.foundation.user_files import MAX_VECTORS_FILE, checked_file, file_text, home_expanded, is_folder
from steering_core.foundation.validation import Strict, checked, shortened, shown
from steering_core.models import Model
from steering_core.models.hub import hub_model, some_files
from steering_core.models.identity import weights_of
from steering_core.packs.pack import ABOUT, CARD, CHART, FORMAT, FORMAT_VERSION, README, VECTORS
from steering_core.store import Store
from steering_core.vectors.vector import Vector

HUB = "hf:"
MAX_ABOUT = 16 << 20  # bytes
MAX_FILES = 1_000  # that a pack names
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PackWord = Annotated[str, Field(max_length=MAX_NAME)]
log = logging.getLogger(__name__)


class About(Strict):
    """What `pack.json` says of a pack; keys of later versions that change no meaning are let pass."""

    model_config = ConfigDict(extra="ignore")

    format: PackWord
    format_version: Annotated[int, Within(0, 1_000)]
    name: PackWord
    model: PackWord
    model_id: PackWord
    files: Annotated[dict[PackWord, PackWord], Field(max_length=MAX_FILES)]
    licence: PackWord | None = None
    evidence: Annotated[dict[PackWord, Any], Field(max_length=MAX_FILES)] = {}


def unpack(store: Store, source: str, model: Model | None = None, name: str | None = None) -> list[Vector]:
    """Have the store hold the vectors of a pack, `source` a folder or `hf:owner/name[@revision]`; those vectors.

    They go by `name`, or as the pack calls them. Raises VectorFileError for a file that is gone or changed, or no pack.
    Raises VectorMismatch where the pack is of another model than `model`, or than the one that the store knows by name.
    """
    folder = pack_folder(source)
    about = checked_pack(folder)
    file = safetensors.read(folder / VECTORS)
    if not isinstance(file, VectorFile) or file.model.model_id != about.model_id:
        raise VectorFileError(f"{folder / VECTORS} is not of the model that {ABOUT} names: pack it again")
    if model is None:
        _check_namesake(store, about)
    return import_vectors(store, folder / VECTORS, model, name or about.name)


def pack_folder(source: str) -> Path:
    """The folder of a pack, downloaded where it is on the hub. Raises VectorFileError where there is none."""
    if source.startswith(HUB):
        wanted = hub_model(source.removeprefix(HUB))
        if wanted is None:
            raise VectorFileError(
                f"{shown(source)} names no pack of the hub: write hf:owner/name or hf:owner/name@revision"
            )
        return some_files(wanted, (ABOUT, VECTORS, CARD, README, CHART), MAX_VECTORS_FILE)
    folder = home_expanded(source)
    if not is_folder(str(folder)):
        raise VectorFileError(f"there is no folder {shown(source)}: name a pack's folder, or hf:owner/name")
    return folder


def checked_pack(folder: Path) -> About:
    """What a pack says of itself, after the hash of each of its files was checked. Raises VectorFileError."""
    text = file_text(folder / ABOUT, VectorFileError, MAX_ABOUT)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as fault:
        why = shortened(str(fault), 200)
        raise VectorFileError(f"{folder / ABOUT} cannot be read as a pack's, which is JSON ({why})") from None
    about = checked(About, said, f"{folder / ABOUT}", VectorFileError)
    if about.format != FORMAT:
        raise VectorFileError(f"{folder / ABOUT} is of the format {shown(about.format)}, not {FORMAT}")
    if about.format_version > FORMAT_VERSION:
        raise VectorFileError(f"{folder} was packed by a later steerflow: upgrade to unpack it")
    if VECTORS not in about.files:
        raise VectorFileError(f"{folder / ABOUT} lists no {VECTORS}: it is no pack of vectors")
    for name, sha256 in about.files.items():
        if not _FILE.fullmatch(name):
            raise VectorFileError(f"{folder / ABOUT} lists {shown(name)}, which is no file of its own folder")
        if file_sha256(checked_file(folder / name, VectorFileError, MAX_VECTORS_FILE)) != sha256:
            raise VectorFileError(f"{folder / name} was changed since it was packed: get the pack again")
    return about


def _check_namesake(store: Store, about: About) -> None:
    """Raise VectorMismatch where the store knows the pack's model by name, and as another one."""
    rows = store.rows("SELECT name, model_id FROM raw.models")
    namesakes = {row["model_id"] for row in rows if row["name"] == about.model}
    if namesakes and weights_of(about.model_id) not in {weights_of(model_id) for model_id in namesakes}:
        raise VectorMismatch(
            f"the pack is of {about.model} with fingerprint {about.model_id}, and this store's {about.model} is "
            f"{', '.join(sorted(namesakes))}: get that revision of the model, or name the right one with --model"
        )
    if weights_of(about.model_id) not in {weights_of(row["model_id"]) for row in rows}:
        log.warning("%s: this store has not met %s yet, so its vectors wait for it", about.name, about.model)
