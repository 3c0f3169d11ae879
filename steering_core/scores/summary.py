"""Scores: measurements of one intervention, together, with a bootstrap interval over their subjects.

Two scores compare an intervention with the unsteered model on the same subjects, so they are paired: `effect`, the
mean change in propensity, and `perplexity_ratio`, the geometric mean of the texts' perplexity ratios.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.cells import NONE, Cell
from steering_core.concepts import Split
from steering_core.keys import content_key
from steering_core.store import Store

SCORES_VERSION = 1
LEVEL = 0.95


def mean_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of `values` (N,) and its percentile bootstrap interval at 95 %. Efron and Tibshirani 1993."""
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    means = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)


def summarise(
    store: Store, cells: Sequence[Cell], measurement_ids: Iterable[str], split: Split, resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Have the store hold the scores of `cells` from those measurements; they come back by intervention and metric."""
    ids = sorted(measurement_ids)
    rows = _measurements(store, ids)
    base = _base(rows)
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        mine = [row for row in rows if (row["intervention_id"], row["control"]) == (cell.intervention_id, cell.control)]
        for metric, values in _scored(mine, base).items():
            value, low, high = mean_interval(values, resamples, seed)
            if metric.startswith("perplexity"):
                value, low, high = np.exp([value, low, high]).tolist()
            made_of = (cell.model_id, cell.concept_id, cell.control, cell.intervention_id, metric, split)
            score_id = content_key("score", SCORES_VERSION, *made_of, sorted(r["measurement_id"] for r in mine), seed)
            row = {"score_id": score_id, **cell.columns(), "split": split, "metric": metric, "value": value}
            row |= {"ci_low": low, "ci_high": high, "n": len(values), "seed": seed}
            scores.setdefault(cell.intervention_id, {})[metric] = row
    store.append_new("scores", [row for metrics in scores.values() for row in metrics.values()])
    return scores


def _measurements(store: Store, ids: Sequence[str]) -> list[dict[str, Any]]:
    wanted = pa.table({"measurement_id": pa.array(ids, pa.string())})
    return store.rows(
        "SELECT m.*, coalesce(g.prompt, m.subject_id) AS subject FROM wanted JOIN raw.measurements m "
        "USING (measurement_id) LEFT JOIN raw.generations g ON g.generation_id = m.subject_id "
        "ORDER BY m.measurement_id",
        wanted=wanted,
    )


def _base(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """The unsteered model's measurements, by metric and subject (an item, or the prompt that a text answers)."""
    return {(row["metric"], row["subject"]): row["value"] for row in rows if row["control"] == NONE}


def _scored(rows: Sequence[dict[str, Any]], base: dict[tuple[str, str], float]) -> dict[str, np.ndarray]:
    """Values to average, by score; perplexities as logarithms. Subjects without a value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        metric, value, before = row["metric"], row["value"], base.get((row["metric"], row["subject"]))
        if metric == "perplexity":
            values.setdefault(metric, []).append(np.log(value))
            if before is not None:
                values.setdefault("perplexity_ratio", []).append(np.log(value / before))
            continue
        values.setdefault(metric, []).append(value)
        if metric == "propensity" and before is not None:
            values.setdefault("effect", []).append(value - before)
    arrays = {metric: np.array(v, np.float64) for metric, v in values.items()}
    return {metric: v[np.isfinite(v)] for metric, v in arrays.items()}
