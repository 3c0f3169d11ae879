"""What a baked model does, against the untouched one: effect on the concept's items, damage on neutral prompts.

The untouched model is measured first and closed, so that two models are never in memory together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.engine.teacher_forcing import log_softmax
from steering_core.models import Model
from steering_core.pipeline.wanted import held_out, neutral
from steering_core.prompts import open_prompt
from steering_core.scores.metrics import Bench, propensity
from steering_core.spec import ScoresSpec
from steering_core.statistics.intervals import mean_interval
from steering_core.store import Store
from steering_core.vectors.vector import Vector

_WANTED = ScoresSpec()
_FOUND = """
WITH chosen AS (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs)
SELECT r.intervention, r.phase, r.verdict, r.effect, r.effect_low, r.effect_high, r.kl, r.perplexity_ratio, r.n
FROM raw.recommendations r LEFT JOIN chosen USING (recommendation_id)
WHERE r.concept_id = ? AND r.model_id = ? AND list_has_all(?, r.vector_ids) AND len(r.vector_ids) > 0
ORDER BY started_at DESC NULLS LAST LIMIT 1
"""


@dataclass(frozen=True)
class Seen:
    """A model on one concept: each test item's propensity in nats per token, and the next token's log-probabilities.

    The latter are (N, V), after each neutral prompt.
    """

    propensities: np.ndarray
    neutral: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Effect in nats per token with its interval over `n` items, and KL(untouched || baked) on neutral prompts."""

    concept: str
    effect: float
    effect_low: float
    effect_high: float
    kl: float
    n: int


def concept_of(store: Store, vectors: Sequence[Vector]) -> Concept | None:
    """The concept with held-out items that the first of `vectors` came from, as the store has it."""
    for vector in vectors:
        if vector.concept_id is not None:
            rows = store.rows("SELECT definition FROM raw.concepts WHERE concept_id = ?", [vector.concept_id])
            concept = Concept.model_validate_json(rows[0]["definition"]) if rows else None
            if concept and concept.items_in("test"):
                return concept
    return None


def as_found(store: Store, concept: Concept, model_id: str, vectors: Sequence[Vector]) -> dict[str, Any] | None:
    """What the latest run recommended of these vectors for the concept, with what it measured; None for none."""
    rows = store.rows(_FOUND, [concept.concept_id, model_id, [vector.vector_id for vector in vectors]])
    return rows[0] if rows else None


def seen(model: Model, concept: Concept) -> Seen:
    """What the model as it is makes of the concept's test items and the neutral prompts of that split."""
    bench, untouched = Bench(model, concept), Cell(model.identity.model_id, concept.concept_id)
    values = [propensity(bench, item, [untouched])[0] for item in held_out(concept, "test", _WANTED)]
    rows = []
    for text in neutral("test", _WANTED):
        tokens = open_prompt(model, concept, text).tokens
        logits = model.network(mx.array([tokens]), cache=model.new_cache())[:, -1]  # (1, V)
        rows.append(log_softmax(logits)[0])
    return Seen(np.array(values), np.array(rows))


def measured(concept: Concept, before: Seen, after: Seen) -> Measured:
    """The baked model's effect and damage, from what the untouched and the baked one make of the same texts."""
    moved = after.propensities - before.propensities
    finite = moved[np.isfinite(moved)]
    effect, low, high = mean_interval(finite)
    kls = (np.exp(before.neutral) * (before.neutral - after.neutral)).sum(axis=-1, dtype=np.float64)
    return Measured(concept.name, effect, low, high, float(kls.mean()), len(finite))
