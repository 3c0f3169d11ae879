"""Measuring the vectors of every cell: the largest alpha within bounds, and every layer's effect at equal damage."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from steering_core.candidates.cell import Strengths, candidates
from steering_core.candidates.chance import chance_controls
from steering_core.concepts import Concept
from steering_core.evaluation.calibration import Calibration
from steering_core.evaluation.recommendations import Bounds
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.pipeline.wanted import bounds, held_out, neutral
from steering_core.runs import Run
from steering_core.scores.measure import measure_items
from steering_core.scores.metrics import Bench
from steering_core.scores.summary import summarise
from steering_core.spec import Spec
from steering_core.vectors.vector import Vector

Rows = list[dict[str, Any]]
Measure = Callable[[Run, Model, Concept, Sequence[Vector]], Rows]


def measured(run: Run, measure: Measure, stages: Stages = PLAIN) -> Rows:
    """The rows that `measure` makes of every (model, concept) cell of a run from the vectors of its grid.

    A cell that fails has no rows; `run.raise_failures` raises its error.
    """
    rows: Rows = []

    def cell(run: Run, model: Model, concept: Concept) -> None:
        rows.extend(measure(run, model, concept, stages.derive_vectors(run, model, concept)))

    each_cell(run, cell, stages)
    return rows


def calibrated(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], texts: bool) -> Rows:
    """Rows of the largest alpha within the spec's bounds for every candidate vector; KL alone without `texts`."""
    scores, found = run.spec.scores, calibration(run, model, concept, vectors)
    at = found.within(bounds(run.spec), neutral("validation", scores), texts)
    return [{"model": model.name, "concept": concept.name, **one.row()} for one in at]


def calibration(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]) -> Calibration:
    """The calibration of every vector that is no control."""
    spec = run.spec.generations
    directions = candidates(model.identity, concept, vectors, Strengths(doses=(1.0,)), spec.phase)
    return Calibration(Bench(model, concept), run.store, directions, spec)


def swept(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], kl: float) -> Rows:
    """Rows of every vector's effect on validation items at the dose where it moves neutral next tokens by `kl` nats."""
    scores, calibrating = run.spec.scores, calibration(run, model, concept, vectors)
    within = Bounds(scores.max_perplexity_ratio, kl)
    at = [one for one in calibrating.within(within, neutral("validation", scores), texts=False) if one.dose]
    controls = [control for one in at for control in chance_controls(one.cell, vectors)]
    everything = [calibrating.unsteered, *(one.cell for one in at), *controls]
    items, notify = held_out(concept, "validation", scores), run.progress("sweep layers")
    did = measure_items(calibrating.bench, run.store, everything, items, "validation", ["propensity"], notify)
    run.count("scores", did)
    found = summarise(run.store, everything, did.ids, "validation", scores.bootstrap, scores.seed)
    rows = []
    for one in at:
        mine = found[one.cell.intervention_id]
        effect, over = mine["effect"], mine.get("over_controls")
        row = {"model": model.name, "concept": concept.name, "method": effect["method"], "layer": effect["layer"]}
        row |= {"alpha": one.cell.alpha, "dose": one.dose, "kl": one.kl}
        row |= {"effect": effect["value"], "effect_low": effect["ci_low"], "effect_high": effect["ci_high"]}
        row |= {"over_controls": over["value"] if over else None, "p_value": over["p_value"] if over else None}
        rows.append(row | {"n": effect["n"], "n_missing": effect["n_missing"]})
    return sorted(rows, key=lambda row: -row["effect"] if row["effect"] is not None else math.inf)


def over_layers(spec: Spec, layers: Literal["all"] | tuple[int, ...]) -> Spec:
    """The spec with another choice of layers in its grid."""
    grid = spec.generations.model_copy(update={"layers": layers})
    return spec.model_copy(update={"generations": grid})
