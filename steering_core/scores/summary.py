"""Scores: measurements of one intervention, together, with an interval over their subjects.

Four scores compare interventions on the same subjects, so they are paired: `effect`, the mean change in propensity
against the unsteered model; `odd_effect`, half the difference between a candidate's effect and that of its mirror image
(the opposite dose), which leaves out whatever both do, such as flattening the distribution; `over_controls`, a
candidate's effect minus that of its best control (random direction or shuffled labels, at its layers), with a p-value;
`perplexity_ratio`, the geometric mean of the texts' perplexity ratios. Intervals are Student's t, those of perplexities
on logarithms. All texts that answer one prompt are one subject, whose value is their mean. A subject without a finite
value (diverged, or a text without a token) is in no mean; `n_missing` counts them. Where the unsteered model's value is
not finite, a change has none, and counts it; `odd_effect` needs no unsteered value.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from steering_core.candidates.cell import CHANCE_CONTROLS, NONE, Cell, mirrored
from steering_core.concepts import Split
from steering_core.foundation.keys import content_key
from steering_core.statistics.intervals import above_zero_p, holm, mean_interval
from steering_core.statistics.metric_names import changes, logarithmic
from steering_core.store import Store

SCORES_VERSION = 7
ODD = "odd_effect"

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Score rows by intervention_id and metric."""
ValuesByScore = dict[str, dict[str, float]]
"""Values by score and subject (an item, a neutral prompt, or the open prompt that a text answers); nan: not finite."""


def summarise(
    store: Store, cells: Sequence[Cell], measurement_ids: Iterable[str], split: Split, corrected: bool = True
) -> Scores:
    """Have the store hold the scores of `cells` from those measurements; they come back by intervention and metric.

    Of two cells with one intervention, such as a candidate that is another's mirror image, the candidate's come back.
    p-values are corrected (Holm) over the candidates of `cells` that have controls, unless `corrected` is False: on
    test there is one candidate, which other data chose.
    """
    rows = _measurements(store, measurement_ids)
    measured: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        measured.setdefault((row["intervention_id"], row["control"]), []).append(row["measurement_id"])
    values = _values(cells, rows)
    beside = _over_controls(cells, values)
    p_values = [above_zero_p(_by_subject(differences)) for differences in beside.values()]
    p_of = dict(zip(beside, map(_or_null, holm(p_values) if corrected else p_values), strict=True))
    everything = content_key("measurements", sorted(i for ids in measured.values() for i in ids))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    stored: dict[str, dict[str, Any]] = {}
    lost = _lost(cells, values)
    for i, cell in enumerate(cells):
        scored = {change: dict[str, float]() for change in lost[i]} | values[i]
        scored |= {"over_controls": beside[i]} if i in beside else {}
        key = (cell.model_id, cell.concept_id, cell.control, cell.intervention_id, split)
        for metric, by_subject in scored.items():
            # its own measurements, or all of them where it is compared with another cell's
            mine = measured.get(cell.key, [])
            made_of = everything if metric in (ODD, "over_controls", *changes().values()) else mine
            row = _score(metric, _by_subject(by_subject), lost[i].get(metric, 0))
            row |= {"split": split, "p_value": p_of.get(i) if metric == "over_controls" else None}
            score_id = content_key("score", SCORES_VERSION, *key, metric, made_of, corrected)
            stored[score_id] = {"score_id": score_id, **cell.columns(), **row}
            if cell.control is None or metric not in found.get(cell.intervention_id, {}):
                found.setdefault(cell.intervention_id, {})[metric] = stored[score_id]
    store.append("scores", list(stored.values()))
    return found


def _or_null(value: float) -> float | None:
    """A number, or null for one that is not finite."""
    return value if np.isfinite(value) else None


def _by_subject(values: Mapping[str, float]) -> np.ndarray:
    """Values in the order of their subjects."""
    return np.array([value for _, value in sorted(values.items())])


def _score(metric: str, values: np.ndarray, lost: int) -> dict[str, Any]:
    """Mean and interval of the finite `values` (N,) as columns: nulls without a value, null ends for a single one.

    `n` counts the finite values, `n_missing` the others and subjects that are `lost`.
    """
    finite = values[np.isfinite(values)]
    row: dict[str, Any] = {"metric": metric, "value": None, "ci_low": None, "ci_high": None, "seed": None}
    row |= {"n": len(finite), "n_missing": len(values) - len(finite) + lost}
    if len(finite):
        ends = mean_interval(finite)
        if logarithmic(metric):
            ends = (float(np.exp(ends[0])), float(np.exp(ends[1])), float(np.exp(ends[2])))
        row |= zip(("value", "ci_low", "ci_high"), map(_or_null, ends), strict=True)
    return row


def cell_values(store: Store, cells: Sequence[Cell], measurement_ids: Iterable[str]) -> list[ValuesByScore]:
    """Each cell's values from those measurements, in the order of `cells`; perplexities as logarithms."""
    return _values(cells, _measurements(store, measurement_ids))


def mean_of(values: ValuesByScore, metric: str) -> float:
    """Mean of a cell's values of one score; nan where there is none, or one is not finite."""
    return float(np.mean(list(values[metric].values()))) if values.get(metric) else float("nan")


def _measurements(store: Store, ids: Iterable[str]) -> list[dict[str, Any]]:
    """Those measurements, in the order of their ids; the subject of a text is the prompt that it answers."""
    rows = store.recall("measurements", ids)
    texts = store.recall("generations", (row["subject_id"] for row in rows.values()))
    prompts = {i: text["prompt"] for i, text in texts.items()}
    return [
        {"measurement_id": i, **row, "subject": prompts.get(row["subject_id"], row["subject_id"])}
        for i, row in rows.items()
    ]


def _values(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> list[ValuesByScore]:
    """Each cell's values to average, perplexities as logarithms; changes where the unsteered model has a value."""
    place = {cell.key: i for i, cell in enumerate(cells)}
    measured: dict[tuple[int, str, str], list[float]] = {}
    for row in rows:
        i = place.get((row["intervention_id"], row["control"]))
        if i is not None:
            measured.setdefault((i, row["metric"], row["subject"]), []).append(_scaled(row))
    values: list[ValuesByScore] = [{} for _ in cells]
    for (i, metric, subject), found in measured.items():
        values[i].setdefault(metric, {})[subject] = sum(found) / len(found)
    base = _unsteered(cells, values)
    for of_cell in values:
        for metric, change in changes().items():
            before = {subject: value for subject, value in base.get(metric, {}).items() if np.isfinite(value)}
            if paired := {s: value - before[s] for s, value in of_cell.get(metric, {}).items() if s in before}:
                of_cell[change] = paired
    for i, cell in enumerate(cells):
        if odd := _odd(cell, values[i], place, values):
            values[i][ODD] = odd
    return values


def _unsteered(cells: Sequence[Cell], values: Sequence[ValuesByScore]) -> ValuesByScore:
    """The unsteered model's values; none where it is not among `cells`."""
    return next((values[i] for i, cell in enumerate(cells) if cell.control == NONE), {})


def _lost(cells: Sequence[Cell], values: Sequence[ValuesByScore]) -> list[dict[str, int]]:
    """By change how many subjects of each cell it leaves out because the unsteered model's value is not finite."""
    base = _unsteered(cells, values)
    found: list[dict[str, int]] = []
    for of_cell in values:
        without = {
            change: sum(not np.isfinite(base.get(metric, {}).get(subject, 0.0)) for subject in of_cell.get(metric, {}))
            for metric, change in changes().items()
        }
        found.append({change: n for change, n in without.items() if n})
    return found


def _odd(
    cell: Cell, mine: ValuesByScore, place: Mapping[tuple[str, str | None], int], values: Sequence[ValuesByScore]
) -> dict[str, float]:
    """(effect of the cell - effect of its mirror image) / 2 by item; empty where the image was not measured.

    Where the unsteered model's value is not finite there is no effect, and their propensities say the same.
    """
    for other in mirrored(cell):
        i = place.get(other.key)
        theirs = values[i] if i is not None else {}
        effects, means = theirs.get("effect", {}), theirs.get("propensity", {})
        odd = {s: (value - means[s]) / 2 for s, value in mine.get("propensity", {}).items() if s in means}
        return odd | {s: (value - effects[s]) / 2 for s, value in mine.get("effect", {}).items() if s in effects}
    return {}


def _scaled(row: Mapping[str, Any]) -> float:
    """A measurement's value, or its logarithm where the metric is averaged so; nan for what is not finite."""
    value = float(row["value"])
    if not np.isfinite(value):
        return float("nan")
    if not logarithmic(row["metric"]):
        return value
    return float(np.log(value)) if value > 0 else float("nan")


def _over_controls(cells: Sequence[Cell], values: Sequence[ValuesByScore]) -> dict[int, dict[str, float]]:
    """Each candidate's effect minus its best control's, by item, on the items that both answered.

    They go by the candidate's place in `cells`; a candidate without controls has none. The best control is the one that
    moves the items furthest in the direction of the candidate's sign, and a positive difference always means that the
    candidate moved them further.
    """
    effects = [{s: x for s, x in v.get("effect", {}).items() if np.isfinite(x)} for v in values]
    found: dict[int, dict[str, float]] = {}
    for i, cell in enumerate(cells):
        if cell.control is not None:
            continue
        controls = [
            {s: effect for s, effect in theirs.items() if s in effects[i]}
            for other, theirs in zip(cells, effects, strict=True)
            if other.control in CHANCE_CONTROLS and other.is_control_of(cell)
        ]
        if best := max(filter(None, controls), key=partial(_reach, cell.sign), default={}):
            found[i] = {s: cell.sign * (effects[i][s] - effect) for s, effect in best.items()}
    return found


def _reach(sign: int, effects: Mapping[str, float]) -> float:
    """The mean effect in the direction of a sign."""
    return sign * float(np.mean(list(effects.values())))
