"""Gates: the projection from which a text counts as showing a vector's concept, fitted on pairs the vector never saw.

A gate is a threshold on a vector's projections, with its ROC curve. It is fitted on a concept's validation pairs, where
hits less false alarms are most (Youden 1950), and held to its test pairs, which give the hit rate and the false alarm
rate that are reported. Two are fitted of each vector: over the *mean* of an answer's projections, for verdicts on whole
answers and prompts, and over each *token*'s, for conditions that are asked token by token. Projections are read where
an answer's tokens are made, from the prompt's last token to the answer's last but one, as monitors and steering do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from steering_core.concepts import SIDES, Concept, Split
from steering_core.concepts.stored import stored_concept
from steering_core.engine.probes import Probe, projections
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import VectorError
from steering_core.foundation.keys import content_key
from steering_core.models import Model
from steering_core.prompts import Prompt, sided_prompt
from steering_core.statistics.separation import auc, roc
from steering_core.store import Store
from steering_core.vectors.vector import Vector

GATES_VERSION = 1
GateOver = Literal["mean", "token"]
OVER: tuple[GateOver, ...] = ("mean", "token")


@dataclass(frozen=True)
class Gate:
    """A threshold on the projections of one vector, over an answer's mean or over each token.

    `hit_rate` and `false_alarm_rate` are those of the held-out pairs' positive and negative sides; nan where there are
    none. `false_alarms`, `hits` and `thresholds` are the ROC curve of the pairs that it was fitted on.
    """

    gate_id: str
    vector_id: str
    over: GateOver
    threshold: float
    auc: float
    hit_rate: float
    false_alarm_rate: float
    n_fitted: int
    n_held_out: int
    false_alarms: tuple[float, ...] = field(repr=False)
    hits: tuple[float, ...] = field(repr=False)
    thresholds: tuple[float, ...] = field(repr=False)

    def row(self) -> dict[str, Any]:
        """The gate as a row of the store's table."""
        return {**asdict(self), "fitted_at": datetime.now(UTC)}


def of_answer(values: np.ndarray, start: int) -> np.ndarray:
    """A probe's projections (T,) at the positions that the answer's tokens, from `start` on, are sampled at.

    All positions where the text has no answer. Position 0 is left out: many models' streams are a hundred times as long
    there as anywhere else.
    """
    if start >= len(values):
        return values[1:] if len(values) > 1 else values
    return values[max(start - 1, min(1, len(values) - 2)) : -1]


def concept_of(store: Store, vector: Vector) -> Concept:
    """The concept that a vector was derived from. Raises VectorError for a vector of no stored concept."""
    found = stored_concept(store, vector.concept_id or "")
    if found is None:
        raise VectorError(
            f"vector {vector.vector_id} comes of no concept in the store, so there are no pairs to fit a gate on: name "
            "one, as in `steer vectors gate NAME --concept CONCEPT`"
        )
    return found


def fit_gates(model: Model, store: Store, vector: Vector, concept: Concept, work: Work) -> list[Gate]:
    """The gates of `vector`, fitted on the validation pairs or texts of `concept` and stored.

    Raises VectorError where the concept has no validation pairs, VectorMismatch for another model's vector.
    """
    vector.check(model.identity)
    fitted, held = _sides(model, concept, "validation"), _sides(model, concept, "test")
    if not all(fitted):
        raise VectorError(f"{concept.name} has no validation pairs to fit a gate on: it needs some ten pairs and more")
    ids = {over: _gate_id(vector, over, fitted, held) for over in OVER}
    missing = store.absent("gates", list(ids.values()))
    work.reused += len(OVER) - len(missing)
    if missing:
        probe = Probe(vector.layer, vector.direction)
        seen = [[_read(model, probe, side, work) for side in split] for split in (fitted, held)]
        made = [_gate(ids[over], vector, over, *seen) for over in OVER if ids[over] in missing]
        store.append("gates", [gate.row() for gate in made])
        work.computed += len(made)
    rows = store.rows(
        "SELECT * EXCLUDE (fitted_at) FROM raw.gates WHERE list_contains(?, gate_id)", [list(ids.values())]
    )
    by_id = {row["gate_id"]: Gate(**{**row, **{n: tuple(row[n]) for n in _CURVE}}) for row in rows}
    return [by_id[ids[over]] for over in OVER]


_CURVE = ("false_alarms", "hits", "thresholds")
_Sides = tuple[list[Prompt], list[Prompt]]
_Seen = Sequence[Sequence[np.ndarray]]
"""Of the positive and the negative side: each text's projections."""


def _sides(model: Model, concept: Concept, split: Split) -> _Sides:
    positive, negative = (
        [sided_prompt(model, concept, text) for text in concept.texts_in(split, side)] for side in SIDES
    )
    return positive, negative


def _read(model: Model, probe: Probe, prompts: Sequence[Prompt], work: Work) -> list[np.ndarray]:
    return [of_answer(projections(model, one.tokens, [probe], work)[0], one.response_start) for one in prompts]


def _gate_id(vector: Vector, over: GateOver, fitted: _Sides, held: _Sides) -> str:
    prompts = [[[one.prompt_id for one in side] for side in sides] for sides in (fitted, held)]
    return content_key("gate", GATES_VERSION, vector.vector_id, over, prompts)


def _gate(gate_id: str, vector: Vector, over: GateOver, fitted: _Seen, held: _Seen) -> Gate:
    positive, negative = (_values(side, over) for side in fitted)
    false_alarms, hits, thresholds = roc(positive, negative)
    best = int(np.argmax(hits - false_alarms))
    threshold = _between(float(thresholds[best]), np.concatenate([positive, negative]))
    hit, alarm = (float((_values(side, over) > threshold).mean()) if side else float("nan") for side in held)
    finite = np.minimum(thresholds, np.finfo(np.float32).max)  # the curve begins at infinity
    return Gate(
        gate_id,
        vector.vector_id,
        over,
        threshold,
        auc(positive, negative),
        hit,
        alarm,
        min(map(len, fitted)),
        min(map(len, held)),
        tuple(false_alarms.tolist()),
        tuple(hits.tolist()),
        tuple(finite.tolist()),
    )


def _values(texts: Sequence[np.ndarray], over: GateOver) -> np.ndarray:
    return np.concatenate(texts) if over == "token" else np.array([text.mean() for text in texts])


def _between(threshold: float, values: np.ndarray) -> float:
    """Half way from `threshold`, the least value above the gate, to the next value below it."""
    below = values[values < threshold]
    return (threshold + float(below.max())) / 2 if len(below) else float(np.nextafter(threshold, -np.inf))


def gates_of(store: Store, vector_ids: Sequence[str]) -> dict[str, dict[GateOver, dict[str, Any]]]:
    """The latest gate of each of those vectors, over each of its units, without the curve."""
    rows = store.rows("SELECT * FROM gates WHERE list_contains(?, vector_id)", [list(vector_ids)])
    found: dict[str, dict[GateOver, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["vector_id"], {})[row["over"]] = row
    return found


def verdict(values: Sequence[float], gate: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a probe's readings of one answer say: their mean, and whether it is above the vector's gate."""
    read = np.array([value for value in values if np.isfinite(value)], np.float64)
    mean = float(read.mean()) if len(read) else None
    said: dict[str, Any] = {"mean": mean, "max": float(read.max()) if len(read) else None, "tokens": len(values)}
    if gate is None:
        return {**said, "threshold": None, "above": None, "false_alarm_rate": None}
    above = None if mean is None else mean > gate["threshold"]
    return {**said, "threshold": gate["threshold"], "above": above, "false_alarm_rate": gate["false_alarm_rate"]}


def curve_text(gate: Gate) -> str:
    """The ROC curve as JSON, a point each for a threshold."""
    points = zip(gate.false_alarms, gate.hits, gate.thresholds, strict=True)
    return json.dumps([{"false_alarms": a, "hits": b, "threshold": c} for a, b, c in points])
