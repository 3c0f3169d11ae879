"""Vectors from stored activations, without a forward pass."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.activations import SITE
from steering_core.concepts import SIDES, Concept
from steering_core.errors import StoreDamaged, VectorError
from steering_core.keys import content_key, seed_from
from steering_core.models import ModelIdentity
from steering_core.store import Store
from steering_core.vectors.methods import METHODS, random_direction, shuffled_direction

VECTORS_VERSION = 1


@dataclass
class Derivation:
    """What one derivation did: ids in the order method, layer, control."""

    vector_ids: list[str] = field(default_factory=list)
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Contrast:
    """The training activations of one concept at one layer, (N, D) each, row i of both from pair i."""

    layer: int
    positive: np.ndarray
    negative: np.ndarray
    residual_norm: float


def derive(
    store: Store,
    model: ModelIdentity,
    concept: Concept,
    methods: Sequence[str],
    layers: Sequence[int],
    position: str,
    random_controls: int,
) -> Derivation:
    """Have the store hold every method's vector at every layer, each with its random and shuffled-label controls."""
    started = time.perf_counter()
    pairs = _training_prompts(store, model, concept)
    done = Derivation()
    wanted: dict[str, tuple[str, int, str | None, int | None]] = {}
    for method in methods:
        for layer in layers:
            for control, seed in _variants(concept, method, layer, random_controls):
                made_of = (model.model_id, concept.concept_id, method, layer, SITE, position, pairs, control, seed)
                wanted[content_key("vector", VECTORS_VERSION, *made_of)] = (method, layer, control, seed)
    done.vector_ids = list(wanted)
    missing = store.absent("vectors", wanted)
    done.computed, done.reused = len(missing), len(wanted) - len(missing)
    for layer in sorted({wanted[i][1] for i in missing}):
        contrast = read_contrast(store, model, pairs, layer, position)
        made = {i: wanted[i] for i in wanted if i in missing and wanted[i][1] == layer}
        rows = [_row(model, concept, contrast, position, pairs, i, *what) for i, what in made.items()]
        store.append("vectors", rows)
    done.seconds = time.perf_counter() - started
    return done


def _variants(concept: Concept, method: str, layer: int, n: int) -> list[tuple[str | None, int | None]]:
    """The vector itself and its controls, each with its seed."""
    seeds = [("random", seed_from("random", concept.concept_id, method, layer, i)) for i in range(n)]
    shuffled = ("shuffled", seed_from("shuffled", concept.concept_id, method, layer))
    return [(None, None), *seeds, shuffled] if n else [(None, None)]


def _training_prompts(store: Store, model: ModelIdentity, concept: Concept) -> list[list[str]]:
    """[positive, negative] prompt ids of every training pair, in the concept's order."""
    rows = store.rows(
        "SELECT pair_id, side, prompt_id FROM raw.pairs WHERE concept_id = ? AND tokenizer_id = ? AND split = 'train' "
        "ORDER BY ordinal",
        [concept.concept_id, model.tokenizer_id],
    )
    pairs: dict[str, dict[str, str]] = {}
    for row in rows:
        pairs.setdefault(row["pair_id"], {})[row["side"]] = row["prompt_id"]
    return [[sides[side] for side in SIDES] for sides in pairs.values()]


def read_contrast(
    store: Store, model: ModelIdentity, pairs: Sequence[Sequence[str]], layer: int, position: str
) -> Contrast:
    """Stored activations of `pairs` ([positive, negative] prompt ids) at one layer. Raises StoreDamaged for gaps."""
    wanted = pa.table({"prompt_id": pa.array(sorted({i for pair in pairs for i in pair}), pa.string())})
    found = store.query(
        "SELECT prompt_id, residual_norm, activation FROM wanted JOIN raw.activations USING (prompt_id) "
        "WHERE model_id = ? AND site = ? AND position = ? AND layer = ?",
        [model.model_id, SITE, position, layer],
        wanted=wanted,
    )
    place = {prompt_id: i for i, prompt_id in enumerate(found["prompt_id"].to_pylist())}
    if missing := {i for pair in pairs for i in pair} - place.keys():
        raise StoreDamaged(f"{len(missing)} activations of layer {layer} are gone from the store: run again")
    flat = found["activation"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = flat.reshape(len(place), -1).astype(np.float32)
    rows = np.array([[place[i] for i in pair] for pair in pairs])  # (N, 2)
    norms = found["residual_norm"].to_numpy()[rows.reshape(-1)]
    return Contrast(layer, values[rows[:, 0]], values[rows[:, 1]], float(norms.astype(np.float64).mean()))


def _row(
    model: ModelIdentity,
    concept: Concept,
    contrast: Contrast,
    position: str,
    pairs: Sequence[Sequence[str]],
    vector_id: str,
    method: str,
    layer: int,
    control: str | None,
    seed: int | None,
) -> dict[str, Any]:
    found = METHODS[method](contrast.positive, contrast.negative)
    if not np.isfinite(found).all() or not np.linalg.norm(found) > 0:
        raise VectorError(
            f"{method} finds no direction for {concept.name} at layer {layer}: the two sides of its {len(pairs)} "
            "training pairs have the same activations, or some are not finite"
        )
    if control == "random" and seed is not None:
        found = random_direction(found, seed)
    elif control == "shuffled" and seed is not None:
        found = shuffled_direction(METHODS[method], contrast.positive, contrast.negative, found, seed)
    direction = found.astype(np.float32)
    return {
        "vector_id": vector_id,
        "name": None,
        "model_id": model.model_id,
        "concept_id": concept.concept_id,
        "method": method,
        "control": control,
        "site": SITE,
        "position": position,
        "layer": layer,
        "seed": seed,
        "norm": float(np.linalg.norm(found)),
        "residual_norm": contrast.residual_norm,
        "n_pairs": len(pairs),
        "prompt_ids": [i for pair in pairs for i in pair],
        "lineage": json.dumps({"version": VECTORS_VERSION, "made": "derived"}),
        "vector": direction,
    }
