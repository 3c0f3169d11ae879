"""Who a model is: a fingerprint of its files, known in milliseconds the second time it is asked for."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steering_core.cache import cache_folder
from steering_core.keys import content_key

IDENTITY_VERSION = 2
_CONTENT = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")
_NOT_CONTENT = ("conversion_report.json", "steerflow-manifest.json")


@dataclass(frozen=True)
class ModelIdentity:
    """A model as the store knows it; `model_id` changes with weights, quantisation, tokenizer, template or dtype."""

    model_id: str
    name: str
    architecture: str
    n_layers: int
    width: int
    vocab_size: int
    dtype: str
    quantisation: str
    tokenizer_id: str
    context: int


@dataclass(frozen=True)
class Shape:
    """What only the loaded network and tokenizer can tell."""

    n_layers: int
    width: int
    vocab_size: int
    dtype: str
    tokenizer_id: str


def identify(name: str, folder: Path, precision: str, shape: Callable[[], Shape]) -> ModelIdentity:
    """The identity of the model in `folder`; its files are read, and `shape` is asked, only when a file changed."""
    files = sorted(f for f in folder.iterdir() if f.suffix in _CONTENT and f.name not in _NOT_CONTENT)
    stats = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    known = cache_folder() / "identities" / f"{content_key(str(folder.resolve()), precision, IDENTITY_VERSION)}.json"
    if known.exists():
        found = json.loads(known.read_text())
        if found["files"] == stats:
            return ModelIdentity(**{**found["identity"], "name": name})
    identity = _identify(name, folder, files, precision, shape())
    known.parent.mkdir(parents=True, exist_ok=True)
    temporary = known.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"files": stats, "identity": dataclasses.asdict(identity)}))
    temporary.replace(known)
    return identity


def _identify(name: str, folder: Path, files: list[Path], precision: str, shape: Shape) -> ModelIdentity:
    digests = {file.name: _digest(file) for file in files}
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config") or {}
    quantisation = config.get("quantization") or config.get("quantization_config")
    return ModelIdentity(
        model_id=content_key("model", digests, precision),
        name=name,
        architecture=config.get("model_type", "unknown"),
        quantisation=f"{quantisation['bits']}-bit" if quantisation and "bits" in quantisation else "none",
        context=int(config.get("max_position_embeddings") or text.get("max_position_embeddings") or 0),
        **dataclasses.asdict(shape),
    )


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
