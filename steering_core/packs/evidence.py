"""What a pack tells of its vectors: where they are from, how strong to use them, what was measured, a picture."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.models.shared_names import shared_name
from steering_core.reports.charts import evaluation, explorer
from steering_core.reports.charts.render import Drawing
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.store.values import stored_object
from steering_core.vectors.vector import Vector

_TESTED = """
SELECT coalesce(control, '') AS control, intervention, layers, dose, effect, effect_low, effect_high, kl,
    perplexity_ratio, n
FROM leaderboard
WHERE model_id = ? AND concept_id = ? AND split = 'test' AND effect IS NOT NULL
    AND (control IS NOT NULL OR list_has_any(vector_ids, ?))
ORDER BY control, effect DESC
"""
_CHOSEN = """
WITH ran AS (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs)
SELECT r.*
FROM recommendations r LEFT JOIN ran USING (recommendation_id)
WHERE r.model_id = $1 AND r.concept_id = $2 AND list_has_any(r.vector_ids, $3) AND list_has_all($3, r.vector_ids)
ORDER BY started_at DESC NULLS LAST LIMIT 1
"""
_SIDE_EFFECTS = """
SELECT measured AS concept, effect, effect_low, effect_high, p_corrected, n
FROM side_effects
WHERE model_id = ? AND concept_id = ? AND candidate_id = ? AND control IS NULL AND measured_concept_id <> concept_id
    AND effect IS NOT NULL
ORDER BY p_corrected, abs(effect) DESC, measured
"""
_QUALITY = """
SELECT layer, auc_test, split_half FROM vector_quality WHERE list_contains(?, vector_id) AND auc_test IS NOT NULL
ORDER BY layer
"""


@dataclass(frozen=True)
class PackEvidence:
    """What the store knows of vectors of one model and concept; empty where nothing was measured.

    `revision` is the commit of a hub's model. `concept` is what the concept is. `chosen` is the latest recommendation
    that needs no vectors but these. `tested` has the rows of the held-out test, controls included. `side_effects` is
    what the recommendation does to other concepts' items. `quality` is each layer's separation.
    """

    revision: str | None
    concept: dict[str, Any] | None
    chosen: dict[str, Any] | None
    tested: list[dict[str, Any]]
    side_effects: list[dict[str, Any]]
    quality: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The evidence as JSON has it."""
        return dataclasses.asdict(self)


def evidence(store: Store, vectors: Sequence[Vector], model_name: str) -> PackEvidence:
    """What the store knows of `vectors`, which are of one model."""
    ids, concept_id = [vector.vector_id for vector in vectors], vectors[0].concept_id
    about = [vectors[0].model_id, concept_id, ids]
    concepts = store.rows(
        "SELECT name, description, n_pairs, n_items FROM raw.concepts WHERE concept_id = ?", [concept_id]
    )
    chosen = next(iter(store.rows(_CHOSEN, about)), None)
    if chosen:
        chosen["model"] = shared_name(chosen["model"])
    return PackEvidence(
        revision=_revision(store, model_name),
        concept=concepts[0] if concepts else None,
        chosen=chosen,
        tested=store.rows(_TESTED, about),
        side_effects=store.rows(_SIDE_EFFECTS, [*about[:2], chosen["intervention_id"]]) if chosen else [],
        quality=store.rows(_QUALITY, [ids]),
    )


def picture(store: Store, vectors: Sequence[Vector]) -> tuple[Drawing, str] | None:
    """A chart of the vectors' concept with its caption: effect over dose, else stability; None without either."""
    ids = [vectors[0].model_id, vectors[0].concept_id]
    rows = store.rows(named_query("dose_response_of_concept"), ids)
    if any(row["kind"] == "candidate" for row in rows):
        return explorer.dose_response(rows), "Effect over dose with its interval; grey: controls at that dose."
    if rows := store.rows(named_query("stability_of_concept"), ids):
        drawn = evaluation.stability(rows)
        return drawn, "How far the direction agrees with itself, found from either half of the pairs."
    return None


def _revision(store: Store, model_name: str) -> str | None:
    """The commit at which the latest run that names one loaded the model from the hub."""
    for row in store.rows("SELECT versions FROM raw.runs ORDER BY started_at DESC"):
        found = stored_object("raw.runs.versions", row["versions"]).get(model_name)
        if found:
            return str(found)
    return None
