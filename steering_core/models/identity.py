"""Who a model is: a fingerprint of its files, known in milliseconds the second time it is asked for."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_core.foundation.cache import cache_folder, keep_json
from steering_core.foundation.keys import content_key, file_sha256
from steering_core.models.code import code_allowed
from steering_core.models.folders import WEIGHTS

log = logging.getLogger(__name__)

IDENTITY_VERSION = 3
_CONTENT = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")
_NOT_CONTENT = ("conversion_report.json", "steerflow-manifest.json")


@dataclass(frozen=True)
class ModelIdentity:
    """A model as the store knows it.

    `model_id` changes with weights, quantisation, tokenizer, chat template, the template's arguments or dtype; the same
    weights under other arguments share its first part (`weights_of`). `template` holds the arguments as JSON.
    `system_role` says where a system prompt stands: in the template's own place for it (`system`), at the head of the
    `user` turn, or nowhere (a base model).
    """

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
    template: str = "{}"
    system_role: str | None = None


@dataclass(frozen=True)
class Shape:
    """What only the loaded network and tokenizer can tell. `reading` is the key of `reading.reading_key`."""

    n_layers: int
    width: int
    vocab_size: int
    dtype: str
    tokenizer_id: str
    reading: str | None
    system_role: str | None


def identify(
    name: str, folder: Path, precision: str, template: Mapping[str, Any], shape: Callable[[], Shape]
) -> ModelIdentity:
    """The identity of the model in `folder`; its files are read, and `shape` is asked, only when a file changed."""
    content = (*_CONTENT, ".py") if code_allowed(folder) else _CONTENT
    files = sorted(f for f in folder.iterdir() if f.suffix in content and f.name not in _NOT_CONTENT)
    files = [f for f in files if f.suffix != ".safetensors" or f.match(WEIGHTS)]  # mlx-lm reads no others
    stats = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    key = (str(folder.resolve()), precision, json.dumps(template, sort_keys=True), IDENTITY_VERSION)
    known = cache_folder() / "identities" / f"{content_key(*key)}.json"
    found = _kept(known)
    if found and found["files"] == stats:
        return ModelIdentity(**{**found["identity"], "name": name})
    identity = _identify(name, folder, files, precision, template, shape())
    try:
        keep_json(known, {"files": stats, "identity": dataclasses.asdict(identity)})
    except OSError as error:
        log.info("the fingerprint of %s cannot be kept, and is made again the next time: %s", name, error)
    return identity


def _kept(file: Path) -> dict[str, Any] | None:
    """What a file of the cache says; None where it is not there, or cannot be read."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.info("%s cannot be read, and is made again: %s", file, error)
        return None
    return found


def _identify(
    name: str, folder: Path, files: list[Path], precision: str, template: Mapping[str, Any], shape: Shape
) -> ModelIdentity:
    digests = {file.name: file_sha256(file) for file in files}
    config = json.loads((folder / "config.json").read_text())
    return identity_of_shape(name, content_key("model", digests, precision), config, template, shape)


def identity_of_shape(
    name: str, weights: str, config: Mapping[str, Any], template: Mapping[str, Any], shape: Shape
) -> ModelIdentity:
    """The identity of a model whose weights have the key `weights`, by its configuration and what was asked of it."""
    text = config.get("text_config") or {}
    quantisation = config.get("quantization") or config.get("quantization_config")
    return ModelIdentity(
        model_id=f"{weights}-{shape.reading[:6]}" if shape.reading else weights,
        tokenizer_id=content_key(shape.tokenizer_id, shape.reading) if shape.reading else shape.tokenizer_id,
        n_layers=shape.n_layers,
        width=shape.width,
        vocab_size=shape.vocab_size,
        dtype=shape.dtype,
        system_role=shape.system_role,
        name=name,
        architecture=config.get("model_type", "unknown"),
        quantisation=f"{quantisation['bits']}-bit" if quantisation and "bits" in quantisation else "none",
        template=json.dumps(template, sort_keys=True),
        context=int(config.get("max_position_embeddings") or text.get("max_position_embeddings") or 0),
    )


def weights_of(model_id: str) -> str:
    """The part of a model's key that it shares with the same weights under other template arguments."""
    return model_id.partition("-")[0]
