"""Scores: measurements of one intervention, together, with a bootstrap interval over their subjects.

Three scores compare interventions on the same subjects, so they are paired: `effect`, the mean change in propensity
against the unsteered model; `over_controls`, a candidate's effect minus that of its best control (random direction or
shuffled labels, at its layer and dose), with a corrected p-value; `perplexity_ratio`, the geometric mean of the texts'
perplexity ratios.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.concepts import Split
from steering_core.evaluation.cells import CHANCE_CONTROLS, NONE, Cell
from steering_core.keys import content_key
from steering_core.scores.statistics import holm, mean_interval, sign_flip_p
from steering_core.store import Store

SCORES_VERSION = 2
LOGARITHMIC = ("perplexity", "perplexity_ratio")

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Score rows by intervention_id and metric."""
Values = dict[str, dict[str, float]]
"""Finite values by score and subject (an item, a neutral prompt, or the open prompt that a text answers)."""


def summarise(
    store: Store,
    cells: Sequence[Cell],
    measurement_ids: Iterable[str],
    split: Split,
    resamples: int,
    seed: int,
    comparisons: int | None = None,
) -> Scores:
    """Have the store hold the scores of `cells` from those measurements; they come back by intervention and metric.

    p-values are corrected for `comparisons`, by default the number of candidates among `cells` that have controls.
    """
    rows = _measurements(store, measurement_ids)
    made_of: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        made_of.setdefault((row["intervention_id"], row["control"]), []).append(row["measurement_id"])
    values = _values(cells, rows)
    against = {i: differences for i, cell in enumerate(cells) if (differences := _over_controls(cell, cells, values))}
    p_values = dict(
        zip(
            against,
            holm([sign_flip_p(np.array(list(d.values())), seed) for d in against.values()], comparisons),
            strict=True,
        )
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for i, cell in enumerate(cells):
        scored = values[i] | ({"over_controls": against[i]} if i in against else {})
        key = (cell.model_id, cell.concept_id, cell.control, cell.intervention_id, split)
        mine = made_of.get((cell.intervention_id, cell.control), [])
        for metric, by_subject in scored.items():
            value, low, high = mean_interval(np.array(list(by_subject.values())), resamples, seed)
            if metric in LOGARITHMIC:
                value, low, high = np.exp([value, low, high]).tolist()
            p_value = p_values.get(i) if metric == "over_controls" else None
            score_id = content_key("score", SCORES_VERSION, *key, metric, mine, value, low, high, p_value)
            row = {"score_id": score_id, **cell.columns(), "split": split, "metric": metric, "value": value}
            row |= {"ci_low": low, "ci_high": high, "p_value": p_value, "n": len(by_subject), "seed": seed}
            found.setdefault(cell.intervention_id, {})[metric] = row
    store.append("scores", [row for metrics in found.values() for row in metrics.values()])
    return found


def cell_values(store: Store, cells: Sequence[Cell], measurement_ids: Iterable[str]) -> list[Values]:
    """Each cell's values from those measurements, in the order of `cells`; perplexities as logarithms."""
    return _values(cells, _measurements(store, measurement_ids))


def _measurements(store: Store, ids: Iterable[str]) -> list[dict[str, Any]]:
    wanted = pa.table({"measurement_id": pa.array(sorted(set(ids)), pa.string())})
    return store.rows(
        "SELECT m.measurement_id, m.intervention_id, m.control, m.metric, m.value, "
        "coalesce(g.prompt, m.subject_id) AS subject FROM wanted JOIN raw.measurements m "
        "USING (measurement_id) LEFT JOIN raw.generations g ON g.generation_id = m.subject_id "
        "ORDER BY m.measurement_id",
        wanted=wanted,
    )


def _values(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> list[Values]:
    """Each cell's values to average, perplexities as logarithms; subjects without a finite value are left out."""
    place = {(cell.intervention_id, cell.control): i for i, cell in enumerate(cells)}
    values: list[Values] = [{} for _ in cells]
    for row in rows:
        i = place.get((row["intervention_id"], row["control"]))
        if i is not None and np.isfinite(value := _scaled(row)):
            values[i].setdefault(row["metric"], {})[row["subject"]] = value
    base = next((values[i] for i, cell in enumerate(cells) if cell.control == NONE), {})
    for of_cell in values:
        for metric, change in (("propensity", "effect"), ("perplexity", "perplexity_ratio")):
            before = base.get(metric, {})
            if paired := {s: value - before[s] for s, value in of_cell.get(metric, {}).items() if s in before}:
                of_cell[change] = paired
    return values


def _scaled(row: Mapping[str, Any]) -> float:
    value = float(row["value"])
    if row["metric"] in LOGARITHMIC:
        return float(np.log(value)) if value > 0 else float("nan")
    return value


def _over_controls(cell: Cell, cells: Sequence[Cell], values: Sequence[Values]) -> dict[str, float]:
    """A candidate's effect minus its best control's, by item, on the items that both answered; empty without controls.

    Controls are pushed the same way as the candidate, so "best" is the greatest mean where alpha is positive and the
    least where it is negative; a positive difference always means that the candidate moved the items further.
    """
    effect = next((v.get("effect", {}) for c, v in zip(cells, values, strict=True) if c is cell), {})
    if cell.control is not None or cell.vector is None or not effect:
        return {}
    sign = 1.0 if cell.alpha > 0 else -1.0
    best: dict[str, float] = {}
    furthest = float("-inf")
    for other, found in zip(cells, values, strict=True):
        if other.control in CHANCE_CONTROLS and other.stands_beside(cell):
            shared = {s: v for s, v in found.get("effect", {}).items() if s in effect}
            if shared and (reach := sign * float(np.mean(list(shared.values())))) > furthest:
                best, furthest = shared, reach
    return {s: sign * (effect[s] - value) for s, value in best.items()}
