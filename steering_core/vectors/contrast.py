"""`PromptSides`: the stored prompts of a concept's contrast; `Contrast`: their activations, all layers in one read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from steering_core.activations.sites import SITE
from steering_core.concepts import Split
from steering_core.foundation.errors import StoreDamaged
from steering_core.foundation.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.store import Store

READ_BYTES = 512 << 20  # activations that are read at once


@dataclass(frozen=True)
class PromptSides:
    """Prompt ids of either side. Where `paired`, positive[i] and negative[i] are a pair; else no two belong together.

    `row_ids` has the key of each pair, or of each positive and then of each negative text.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    row_ids: tuple[str, ...]
    paired: bool

    @property
    def n_pairs(self) -> int:
        """How many pairs there are; 0 for unpaired texts."""
        return len(self.positive) if self.paired else 0

    @property
    def complete(self) -> bool:
        """Whether both sides have a text."""
        return bool(self.positive and self.negative)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The prompt ids pair by pair, or side by side."""
        return list(zip(self.positive, self.negative, strict=True)) if self.paired else [self.positive, self.negative]

    @property
    def prompt_ids(self) -> list[str]:
        """The prompt ids in the order of `rows`."""
        return [prompt_id for row in self.rows for prompt_id in row]

    @property
    def key(self) -> str:
        """Content key of the prompts and of how they belong together."""
        return content_key("pairs" if self.paired else "unpaired", self.rows)


@dataclass(frozen=True)
class Contrast:
    """Activations of one concept's sides at one layer, (N, D) and (M, D) float32.

    Where `paired`, N is M, and row i of both is from pair i.
    """

    layer: int
    positive: np.ndarray
    negative: np.ndarray
    residual_norm: float
    paired: bool = True


def concept_sides(store: Store, model: ModelIdentity, concept_id: str, split: Split = "train") -> PromptSides:
    """The concept's pairs, or unpaired texts, in one split, in the concept's order."""
    rows = store.rows(
        "SELECT pair_id, side, prompt_id FROM raw.pairs WHERE concept_id = ? AND tokenizer_id = ? "
        "AND split = ? ORDER BY ordinal",
        [concept_id, model.tokenizer_id, split],
    )
    positive, negative = (
        {row["pair_id"]: row["prompt_id"] for row in rows if row["side"] == side} for side in ("positive", "negative")
    )
    paired = positive.keys() == negative.keys()
    row_ids = tuple(positive) if paired else (*positive, *negative)
    others = [negative[row_id] for row_id in positive] if paired else negative.values()
    return PromptSides(tuple(positive.values()), tuple(others), row_ids, paired)


def joined(parts: Sequence[PromptSides]) -> PromptSides:
    """The sides of several splits of one concept as one, in their order. An empty split may be of either kind."""
    positive, negative = ([i for part in parts for i in getattr(part, side)] for side in ("positive", "negative"))
    first = [row_id for part in parts for row_id in part.row_ids[: len(part.positive)]]
    second = [row_id for part in parts for row_id in part.row_ids[len(part.positive) :]]
    return PromptSides(tuple(positive), tuple(negative), (*first, *second), all(part.paired for part in parts))


def read_contrasts(
    store: Store, model: ModelIdentity, sides: PromptSides, layers: Sequence[int], position: str
) -> Iterator[Contrast]:
    """The contrast of `sides` at each layer; the store is read once, or once for every `READ_BYTES` of activations.

    Raises StoreDamaged for gaps.
    """
    prompt_ids = sorted({*sides.positive, *sides.negative})
    place = {prompt_id: row for row, prompt_id in enumerate(prompt_ids)}
    positive, negative = ([place[i] for i in side] for side in (sides.positive, sides.negative))
    at_once = max(1, READ_BYTES // max(1, len(prompt_ids) * model.width * 4))
    for begin in range(0, len(layers), at_once):
        some = list(layers[begin : begin + at_once])
        values, norms = read_activations(store, model, prompt_ids, some, position)
        for layer, value, norm in zip(some, values, norms, strict=True):
            mean_norm = float(norm[[place[i] for i in sides.prompt_ids]].mean())
            yield Contrast(layer, value[positive], value[negative], mean_norm, sides.paired)


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
