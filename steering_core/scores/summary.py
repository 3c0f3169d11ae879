"""Scores: measurements of one intervention, together, with an interval over their subjects.

Three scores compare interventions on the same subjects, so they are paired: `effect`, the mean change in propensity
against the unsteered model; `over_controls`, a candidate's effect minus that of its best control (random direction or
shuffled labels, at its layers and dose), with a corrected p-value; `perplexity_ratio`, the geometric mean of the texts'
perplexity ratios. Intervals are percentile bootstraps; those of perplexities are Student's t on logarithms, since texts
are few and decide what counts as safe. All texts that answer one prompt are one subject, whose value is their mean. A
subject without a finite value (diverged, or a text without a token) is in no mean; `n_missing` counts them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.candidates.cell import CHANCE_CONTROLS, NONE, Cell
from steering_core.concepts import Split
from steering_core.foundation.keys import content_key
from steering_core.statistics.intervals import holm, mean_interval, sign_flip_p, student_interval
from steering_core.statistics.metric_names import changes, logarithmic
from steering_core.store import Store

SCORES_VERSION = 5

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Score rows by intervention_id and metric."""
Values = dict[str, dict[str, float]]
"""Values by score and subject (an item, a neutral prompt, or the open prompt that a text answers); nan: not finite."""


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
            holm([sign_flip_p(_by_subject(d), seed) for d in against.values()], comparisons),
            strict=True,
        )
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for i, cell in enumerate(cells):
        scored = values[i] | ({"over_controls": against[i]} if i in against else {})
        key = (cell.model_id, cell.concept_id, cell.control, cell.intervention_id, split)
        mine = made_of.get((cell.intervention_id, cell.control), [])
        for metric, by_subject in scored.items():
            row = _score(metric, _by_subject(by_subject), resamples, seed)
            row |= {"split": split, "p_value": p_values.get(i) if metric == "over_controls" else None}
            score_id = content_key("score", SCORES_VERSION, *key, mine, row)
            found.setdefault(cell.intervention_id, {})[metric] = {"score_id": score_id, **cell.columns(), **row}
    store.append("scores", [row for metrics in found.values() for row in metrics.values()])
    return found


def _by_subject(values: Mapping[str, float]) -> np.ndarray:
    """Values in the order of their subjects, so that a seed draws the same ones whatever the cell is called."""
    return np.array([value for _, value in sorted(values.items())])


def _score(metric: str, values: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """Mean and interval of the finite ones of `values` (N,), null where none is, and how many are and are not.

    One perplexity has no interval: null ends.
    """
    finite = values[np.isfinite(values)]
    row: dict[str, Any] = {"metric": metric, "value": None, "ci_low": None, "ci_high": None, "seed": seed}
    row |= {"n": len(finite), "n_missing": len(values) - len(finite)}
    if len(finite):
        if logarithmic(metric):
            found = tuple(float(np.exp(end)) if np.isfinite(end) else None for end in student_interval(finite))
        else:
            found = mean_interval(finite, resamples, seed)
        row |= zip(("value", "ci_low", "ci_high"), found, strict=True)
    return row


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
    """Each cell's values to average, perplexities as logarithms; changes where the unsteered model has a value."""
    place = {(cell.intervention_id, cell.control): i for i, cell in enumerate(cells)}
    measured: dict[tuple[int, str, str], list[float]] = {}
    for row in rows:
        i = place.get((row["intervention_id"], row["control"]))
        if i is not None:
            measured.setdefault((i, row["metric"], row["subject"]), []).append(_scaled(row))
    values: list[Values] = [{} for _ in cells]
    for (i, metric, subject), found in measured.items():
        values[i].setdefault(metric, {})[subject] = sum(found) / len(found)
    base = next((values[i] for i, cell in enumerate(cells) if cell.control == NONE), {})
    for of_cell in values:
        for metric, change in changes().items():
            before = {subject: value for subject, value in base.get(metric, {}).items() if np.isfinite(value)}
            if paired := {s: value - before[s] for s, value in of_cell.get(metric, {}).items() if s in before}:
                of_cell[change] = paired
    return values


def _scaled(row: Mapping[str, Any]) -> float:
    value = float(row["value"])
    if not np.isfinite(value) or not logarithmic(row["metric"]):
        return value if np.isfinite(value) else float("nan")
    return float(np.log(value)) if value > 0 else float("nan")


def _over_controls(cell: Cell, cells: Sequence[Cell], values: Sequence[Values]) -> dict[str, float]:
    """A candidate's effect minus its best control's, by item, on the items that both answered; empty without controls.

    "Best" is the control that moves the items furthest the candidate's way; a positive difference always means that the
    candidate moved them further.
    """
    effects = [{s: x for s, x in v.get("effect", {}).items() if np.isfinite(x)} for v in values]
    effect = next((found for c, found in zip(cells, effects, strict=True) if c is cell), {})
    if cell.control is not None or not effect:
        return {}
    best: dict[str, float] = {}
    furthest = float("-inf")
    for other, found in zip(cells, effects, strict=True):
        if other.control in CHANCE_CONTROLS and other.stands_beside(cell):
            shared = {s: v for s, v in found.items() if s in effect}
            if shared and (reach := cell.way * float(np.mean(list(shared.values())))) > furthest:
                best, furthest = shared, reach
    return {s: cell.way * (effect[s] - value) for s, value in best.items()}
