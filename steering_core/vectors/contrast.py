"""`Contrast`: the stored activations of a concept's pairs, all layers in one read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from steering_core.activations.sites import SITE
from steering_core.concepts import SIDES, Split
from steering_core.foundation.errors import StoreDamaged
from steering_core.models import ModelIdentity
from steering_core.store import Store

READ_BYTES = 512 << 20  # activations that are read at once

Pair = tuple[str, str]
"""Prompt ids of a pair's positive and negative side."""


@dataclass(frozen=True)
class Contrast:
    """Activations of one concept's pairs at one layer, (N, D) float32 each, row i of both from pair i."""

    layer: int
    positive: np.ndarray
    negative: np.ndarray
    residual_norm: float


def concept_pairs(store: Store, model: ModelIdentity, concept_id: str, split: Split = "train") -> dict[str, Pair]:
    """Prompt ids of the concept's pairs in one split, by pair_id, in the concept's order."""
    rows = store.rows(
        "SELECT pair_id, side, prompt_id FROM raw.pairs WHERE concept_id = ? AND tokenizer_id = ? "
        "AND split = ? ORDER BY ordinal",
        [concept_id, model.tokenizer_id, split],
    )
    pairs: dict[str, dict[str, str]] = {}
    for row in rows:
        pairs.setdefault(row["pair_id"], {})[row["side"]] = row["prompt_id"]
    positive, negative = SIDES
    return {pair_id: (sides[positive], sides[negative]) for pair_id, sides in pairs.items()}


def read_contrasts(
    store: Store, model: ModelIdentity, pairs: Sequence[Pair], layers: Sequence[int], position: str
) -> Iterator[Contrast]:
    """The contrast of `pairs` at each layer; the store is read once, or once for every `READ_BYTES` of activations.

    Raises StoreDamaged for gaps.
    """
    prompt_ids = sorted({i for pair in pairs for i in pair})
    place = {prompt_id: row for row, prompt_id in enumerate(prompt_ids)}
    rows = np.array([[place[i] for i in pair] for pair in pairs]).reshape(-1, 2)  # (N, 2)
    at_once = max(1, READ_BYTES // max(1, len(prompt_ids) * model.width * 4))
    for begin in range(0, len(layers), at_once):
        some = list(layers[begin : begin + at_once])
        values, norms = read_activations(store, model, prompt_ids, some, position)
        for layer, value, norm in zip(some, values, norms, strict=True):
            mean_norm = float(norm[rows.reshape(-1)].mean())
            yield Contrast(layer, value[rows[:, 0]], value[rows[:, 1]], mean_norm)


def read_activations(
    store: Store, model: ModelIdentity, prompt_ids: Sequence[str], layers: Sequence[int], position: str
) -> tuple[np.ndarray, np.ndarray]:
    """Stored activations (L, P, D) float32 and residual norms (L, P) float64. Raises StoreDamaged for gaps."""
    wanted = pa.table(
        {"prompt_id": pa.array(prompt_ids, pa.string()), "place": pa.array(range(len(prompt_ids)), pa.int32())}
    )
    found = store.query(
        "SELECT place, layer, residual_norm, activation FROM wanted JOIN raw.activations USING (prompt_id) "
        "WHERE model_id = ? AND site = ? AND position = ? AND layer BETWEEN ? AND ? AND list_contains(?, layer)",
        [model.model_id, SITE, position, min(layers), max(layers), list(layers)],
        wanted=wanted,
    )
    values = np.empty((len(layers), len(prompt_ids), model.width), np.float32)
    norms = np.full(values.shape[:2], np.nan)
    where = np.full(max(layers) + 1, -1)
    where[list(layers)] = range(len(layers))
    at = where[found["layer"].to_numpy()], found["place"].to_numpy()
    values[at] = found["activation"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, model.width)
    norms[at] = found["residual_norm"].to_numpy()
    if gaps := int(np.isnan(norms).sum()):
        raise StoreDamaged(
            f"{gaps} of the {norms.size} activations that are needed (layers {min(layers)} to {max(layers)}) are not "
            "in the store: run again, and they are extracted"
        )
    return values, norms
