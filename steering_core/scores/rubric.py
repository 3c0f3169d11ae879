"""The rubric's mean: one rating of a text from a judge's three, computed from what the store holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from steering_core.scores.scorers import Rating, ScoredBy
from steering_core.statistics.metric_names import RATINGS
from steering_core.store import Store

HARMONIC = "judge_harmonic"


def harmonic_mean(ratings: Sequence[float]) -> float:
    """n over the sum of the n ratings' reciprocals; 0 where one is 0, nan where one is nan."""
    if any(math.isnan(rating) for rating in ratings):
        return math.nan
    return 0.0 if 0 in ratings else len(ratings) / sum(1 / rating for rating in ratings)


def combined(rows: Sequence[Mapping[str, Any]]) -> Rating:
    """The harmonic mean of one text's ratings, which are rows of measurements; nan where one of them is missing."""
    of = {row["metric"]: row for row in rows}
    values = [float(of[metric]["value"]) if metric in of else math.nan for metric in RATINGS]
    first = rows[0]
    parts = {row["metric"]: row["scorer_id"] for row in rows}
    return Rating(harmonic_mean(values), ScoredBy(HARMONIC, first["model"], first["version"], {"of": parts}))


def ratings_of(store: Store, measurement_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The measurements of those ids by the text that they rate, each with its scorer's model and version."""
    wanted = pa.table({"measurement_id": pa.array(list(measurement_ids), pa.string())})
    rows = store.rows(
        "SELECT m.*, s.model, s.version FROM wanted JOIN raw.measurements m USING (measurement_id) "
        "JOIN raw.scorers s USING (scorer_id) ORDER BY m.subject_id, m.metric",
        wanted=wanted,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["subject_id"], []).append(row)
    return found
