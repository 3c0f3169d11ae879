"""Vectors read from the store by their ids, with their fitted gates and what recommendations say of them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from steering_core.foundation.bounds import DOSE_OF_SLIPS
from steering_core.foundation.errors import VectorNotFound
from steering_core.interventions.safe_range import SafeRange
from steering_core.store import Store
from steering_core.store.values import stored_direction, stored_object
from steering_core.vectors.called import given_names
from steering_core.vectors.vector import Vector

_GATES = "SELECT vector_id, over, threshold FROM gates SEMI JOIN wanted USING (vector_id)"
_RECOMMENDED = """
WITH recommended AS (
    SELECT unnest(coalesce(r.vector_ids, [r.vector_id])) AS vector_id, r.recommendation_id, r.concept_id, r.verdict,
        CASE WHEN r.safe_dose > 0 THEN r.safe_dose END AS safe_dose,
        len(coalesce(r.vector_ids, [r.vector_id])) AS n_vectors, coalesce(started_at, '-infinity') AS started_at
    FROM raw.recommendations r
    JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) USING (recommendation_id)
)
SELECT vector_id, coalesce(
        arg_max(recommendation_id, started_at) FILTER (safe_dose IS NOT NULL), arg_max(recommendation_id, started_at)
    ) AS source_id, arg_max(safe_dose, started_at) AS dose,
    nullif(nullif(arg_max(verdict, started_at), 'works'), 'weak') AS unproven,
    coalesce(arg_max(c.name, started_at), vector_id) AS name, arg_max(n_vectors, started_at) = 1 AS is_alone
FROM recommended SEMI JOIN wanted USING (vector_id) LEFT JOIN raw.concepts c USING (concept_id)
GROUP BY vector_id
"""


def vectors_by_id(store: Store, vector_ids: Sequence[str]) -> list[Vector]:
    """The stored vectors of those ids, in that order. Raises VectorNotFound for an id that the store lacks."""
    wanted = pa.table({"vector_id": pa.array(sorted(set(vector_ids)), pa.string())})
    rows = store.rows(
        "SELECT v.* EXCLUDE (norm, prompt_ids), m.architecture, coalesce(l.label, c.name) AS name FROM wanted "
        "JOIN raw.vectors v USING (vector_id) LEFT JOIN raw.models m USING (model_id) "
        "LEFT JOIN raw.concepts c USING (concept_id) "
        "LEFT JOIN labels l ON l.vector_id = v.vector_id AND l.kind = 'name'",
        wanted=wanted,
    )
    fitted, ranged = not store.empty("gates"), not store.empty("recommendations")
    gates = store.rows(_GATES, wanted=wanted) if fitted else []
    recommended = _recommendations(store, wanted) if ranged else {}
    found = {row["vector_id"]: _vector(row, recommended.get(row["vector_id"])) for row in rows}
    for gate in gates:
        if gate["vector_id"] in found:
            found[gate["vector_id"]].gates[gate["over"]] = gate["threshold"]
    if missing := [i for i in vector_ids if i not in found]:
        raise VectorNotFound(f"the store has no vector {missing[0]}: run the spec that derives it again")
    return [found[vector_id] for vector_id in vector_ids]


def _recommendations(store: Store, wanted: pa.Table) -> dict[str, dict[str, Any]]:
    """The rows of `_RECOMMENDED` by vector_id; a vector that was recommended alone goes by its given name."""
    rows = store.rows(_RECOMMENDED, wanted=wanted)
    names = given_names(store, [row["vector_id"] for row in rows if row.pop("is_alone")]) if rows else {}
    return {key: {**row, "name": names.get(key, row["name"])} for row in rows for key in [row.pop("vector_id")]}


def _vector(row: dict[str, Any], recommended: dict[str, Any] | None) -> Vector:
    """The vector of a row of `vectors`, with its row of `_RECOMMENDED`, where there is one."""
    direction = stored_direction(row["vector_id"], row.pop("vector"), row["residual_norm"])
    safe = _safe_range(recommended, row["residual_norm"]) if recommended else None
    lineage = stored_object("raw.vectors.lineage", row["lineage"])
    return Vector(**{**row, "lineage": lineage}, direction=direction, safe=safe)


def _safe_range(recommended: dict[str, Any], residual_norm: float) -> SafeRange | None:
    """The range of a row of `_RECOMMENDED`; None where it says neither a dose nor a doubt."""
    if recommended["dose"] is not None:
        return SafeRange(**recommended, residual_norm=residual_norm)
    if recommended["unproven"] is None or not residual_norm > 0:
        return None
    return SafeRange(**{**recommended, "dose": DOSE_OF_SLIPS}, residual_norm=residual_norm, measured=False)
