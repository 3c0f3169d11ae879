"""What stores hold: made-up activations, from which vectors derive without a network, rows, and all that is there."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.concepts import SIDES, Concept, Pair
from steering_core.foundation.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.pipeline.rows import concept_row, pair_row, prompt_row
from steering_core.prompts import Prompt
from steering_core.store import Store
from steering_core.store.tables import TABLES
from steering_core.vectors.vector import Vector

LAYERS = (0, 1, 2, 3)
WIDTH = 16
OF_THE_HOUR = ("runs", "outcomes")  # what says when something was done: as many rows as there were runs


def identity(name: str = "made-up", **changes: object) -> ModelIdentity:
    """A model that exists in name alone: 4 layers of width 16."""
    fields = {
        "model_id": content_key("made up", name),
        "name": name,
        "architecture": "llama",
        "n_layers": len(LAYERS),
        "width": WIDTH,
        "vocab_size": 100,
        "dtype": "float32",
        "quantisation": "none",
        "tokenizer_id": content_key("tokenizer of", "made up"),
        "context": 512,
    }
    return ModelIdentity(**{**fields, **changes})  # type: ignore[arg-type]


MODEL = identity()


def made_up_concept(name: str, n: int = 20) -> Concept:
    """A concept of `n` raw-text pairs."""
    return Concept(
        name=name, pairs=tuple(Pair(positive=f"{name} {i} yes", negative=f"{name} {i} no") for i in range(n))
    )


def fill(
    store: Store,
    model: ModelIdentity,
    concept: Concept,
    directions: np.ndarray,
    noise: float = 0.1,
    layers: Sequence[int] = LAYERS,
    position: str = "last",
) -> None:
    """Store pairs whose sides differ by `directions` (L, D) at each layer, plus noise that prompt and layer fix."""
    prompts = {side: [_prompt(model, getattr(pair, side)) for pair in concept.pairs] for side in SIDES}
    store.append("models", [dataclasses.asdict(model)])
    store.append("concepts", [concept_row(concept)])
    store.append("prompts", [prompt_row(p) for side in SIDES for p in prompts[side]])
    store.append("pairs", [pair_row(concept, text, prompts[text.side][text.ordinal]) for text in concept.texts])
    rows = [
        {
            "model_id": model.model_id,
            "prompt_id": prompt.prompt_id,
            "site": "resid_post",
            "position": position,
            "layer": layer,
            "residual_norm": 10.0 + layer,
            "activation": _activation(prompt, layer, sign * directions[layer] / 2, noise),
        }
        for layer in layers
        for side, sign in zip(SIDES, (1, -1), strict=True)
        for prompt in prompts[side]
    ]
    schema = store.query("SELECT * FROM raw.activations LIMIT 0").schema
    store.append_activations(model.model_id, pa.Table.from_pylist(rows, schema=schema), len(rows) // len(layers))


def _activation(prompt: Prompt, layer: int, shift: np.ndarray, noise: float) -> np.ndarray:
    seed = int(prompt.prompt_id[:8], 16) + layer
    return (shift + noise * np.random.default_rng(seed).standard_normal(len(shift))).astype(np.float32)


def _prompt(model: ModelIdentity, text: str) -> Prompt:
    tokens = tuple(text.encode())
    return Prompt(tokens, text, len(tokens), model.tokenizer_id)


def planted_directions(seed: int = 0, norm: float = 1.0, width: int = WIDTH) -> np.ndarray:
    """A direction a layer, (L, D) float32, of that norm."""
    drawn = np.random.default_rng(seed).standard_normal((len(LAYERS), width))
    return (norm * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def concept_rows(*names: str) -> list[dict[str, Any]]:
    """Rows of concepts without anything in them."""
    empty = dict.fromkeys(TABLES["concepts"].schema.names)
    return [{**empty, "concept_id": name, "name": name, "chat": False} for name in names]


def held(root: Path) -> dict[str, set[tuple[Any, ...]]]:
    """The keys of each table's rows, each there once."""
    found, store = {}, Store(root)
    for name, table in TABLES.items():
        rows = store.query(f'SELECT {", ".join(table.key)} FROM raw."{name}"')
        keys = list(zip(*(rows[key].to_pylist() for key in table.key), strict=True))
        assert len(keys) == len(set(keys)), f"rows of {name} are there twice"
        found[name] = set(keys)
    return found


def contents(root: Path) -> dict[str, list[Any]]:
    """Every row of every table, without the hour."""
    found, store = {}, Store(root)
    for name, table in TABLES.items():
        if name not in OF_THE_HOUR:
            columns = [f.name for f in table.schema if not pa.types.is_timestamp(f.type)]
            order = ", ".join(table.key)
            found[name] = store.rows(f'SELECT {", ".join(columns)} FROM raw."{name}" ORDER BY {order}')
    return found


def vector(seed: int = 0, layer: int = 1, norm: float = 2.0, model_id: str = MODEL.model_id) -> Vector:
    """A vector without a concept, of the made-up model."""
    direction = planted_directions(seed, norm)[layer]
    return Vector(f"{seed:020x}", model_id, None, "made up", layer, 10.0, direction=direction, architecture="llama")
