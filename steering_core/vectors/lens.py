"""The logit lens of a vector against a concept's answers: which answers its direction alone promotes.

The final norm and the unembedding are applied to the direction as if it were the residual stream (`meaning`). The score
is the logit of the tokens of matching answers minus that of not matching ones, averaged over held-out items, in units
of what random directions score: 0 is chance, 3 is three standard deviations. No text and no pass over any block is
needed for it, only the weights after the last block.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steering_core.concepts import Concept, Item, Split
from steering_core.foundation.counting import Work
from steering_core.foundation.keys import content_key
from steering_core.models import Model
from steering_core.prompts import item_prompts
from steering_core.statistics.intervals import mean_interval
from steering_core.store import Store
from steering_core.vectors.meaning import vector_logits
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector

LENS_VERSION = 1
METRIC = "logit_lens"  # in the table qualities
SPLITS: tuple[Split, ...] = ("validation", "test")  # of items
YARDSTICKS = 128  # random directions
_AT_ONCE = 32  # directions whose logits are held: 2 x 32 x 150,000 numbers are 38 MB


def lens_scores(model: Model, concept: Concept, directions: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """Each direction's logit difference on each item, matching minus not matching answer, (B, D) -> (B, N).

    The unit is the standard deviation that random directions have of the mean over `items`, so that a row's mean is the
    direction's score. All nan where random directions do not tell the answers apart.
    """
    answers = [_answers(model, concept, item) for item in items]
    tokens = sorted({token for pair in answers for side in pair for token in side})
    column = {token: i for i, token in enumerate(tokens)}
    weights = np.zeros((len(tokens), len(items)))  # of each token's logit in each item's difference
    for i, (matching, other) in enumerate(answers):
        for sign, side in ((1.0, matching), (-1.0, other)):
            for token in side:
                weights[column[token], i] += sign / len(side)
    drawn = np.random.default_rng(0).standard_normal((YARDSTICKS, model.identity.width))
    found, chance = (_logits(model, rows, tokens) @ weights for rows in (directions, drawn))
    spread = float(np.sqrt(np.mean(chance.mean(axis=1) ** 2))) if items else 0.0
    return found / spread if spread > 0 else np.full_like(found, np.nan)


def _logits(model: Model, directions: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """The lens's logits of those tokens, (B, D) -> (B, len(tokens)) float64."""
    chunks = [directions[begin : begin + _AT_ONCE] for begin in range(0, len(directions), _AT_ONCE)]
    return np.concatenate([vector_logits(model, chunk)[:, list(tokens)] for chunk in chunks]).astype(np.float64)


def _answers(model: Model, concept: Concept, item: Item) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of an item's matching and not matching answer, from where the two differ."""
    one, other = item_prompts(model, concept, item)
    begin = one.response_start
    while begin < min(len(one.tokens), len(other.tokens)) - 1 and one.tokens[begin] == other.tokens[begin]:
        begin += 1
    return one.tokens[begin:], other.tokens[begin:]


def assess_lens(store: Store, model: Model, concept: Concept, vector_ids: Sequence[str]) -> Work:
    """Have the store hold the logit-lens score of those vectors on each split's items, as qualities."""
    work = Work()
    with work.timed():
        for split in SPLITS:
            items = sorted(concept.items_in(split), key=lambda item: item.item_id)
            made_of = (concept.concept_id, [item.item_id for item in items], split)
            ids = {content_key("lens", LENS_VERSION, vector_id, *made_of): vector_id for vector_id in vector_ids}
            missing = store.absent("qualities", ids) if items else set()
            vectors = vectors_by_id(store, [ids[i] for i in ids if i in missing])
            work.computed += len(vectors)
            work.reused += len(ids) - len(vectors)
            if vectors:
                key_of = {vector_id: i for i, vector_id in ids.items()}
                scores = lens_scores(model, concept, np.stack([v.direction for v in vectors]), items)
                rows = [_row(key_of[v.vector_id], v, split, row) for v, row in zip(vectors, scores, strict=True)]
                store.append("qualities", [row for row in rows if row["value"] is not None])
    return work


def _row(quality_id: str, vector: Vector, split: Split, scores: np.ndarray) -> dict[str, Any]:
    ends = [float(end) if np.isfinite(end) else None for end in mean_interval(scores)]
    row: dict[str, Any] = {"quality_id": quality_id, "vector_id": vector.vector_id, "metric": METRIC, "split": split}
    row |= {"pair_id": None, **dict(zip(("value", "ci_low", "ci_high"), ends, strict=True))}
    return row | {"n": len(scores), "draws": YARDSTICKS, "seed": 0}
