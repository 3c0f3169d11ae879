"""Measuring the vectors of every cell: the largest alpha within bounds, and every layer's effect at equal damage."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from steering_core.candidates.cell import mirrored
from steering_core.candidates.grid import Strengths, candidates
from steering_core.concepts import Concept
from steering_core.evaluation.calibration import Calibration
from steering_core.evaluation.damage import Damage
from steering_core.evaluation.search import rivals_of
from steering_core.foundation.errors import ModelError, SpecError
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import PLAIN, Stages, neutral_answers_of
from steering_core.pipeline.wanted import bounds, held_out, library_vectors, neutral, refuse_without_validation
from steering_core.runs import Run
from steering_core.scores.measure import measure_items
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import ODD, summarise
from steering_core.spec import Spec
from steering_core.store import Row, TableRows
from steering_core.vectors.vector import Vector

FIRST_DOSE = 0.3  # where the search for a damage begins
Measure = Callable[[Run, Model, Concept, Sequence[Vector]], TableRows]


def measured_rows(run: Run, measure: Measure, stages: Stages = PLAIN) -> TableRows:
    """The rows that `measure` makes of every (model, concept) cell of a run from the vectors of its grid.

    A cell that fails has no rows; `run.raise_failures` raises its error.
    """
    rows: list[Row] = []

    def cell(run: Run, model: Model, concept: Concept) -> None:
        """Gather one cell's rows."""
        vectors = stages.derive_vectors(run, model, concept)
        rows.extend(measure(run, model, concept, [*vectors, *library_vectors(run.spec, run.store, model, vectors)]))

    each_cell(run, cell, stages)
    return rows


def calibration_rows(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], texts: bool) -> TableRows:
    """Rows of every candidate vector's largest alpha within the spec's bounds; by damage alone without `texts`."""
    at = calibration(run, model, concept, vectors).within(bounds(run.spec), texts)
    return [{"model": model.name, "concept": concept.name, **one.row()} for one in at]


def calibration(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]) -> Calibration:
    """The calibration of every vector that is no control.

    Raises SpecError where damage is not asked for, and ModelError where no neutral answer has a token.
    """
    spec, scores = run.spec.generations, run.spec.scores
    directions = candidates(model.identity, concept, vectors, Strengths(doses=(FIRST_DOSE,)), spec.phase)
    answers = neutral_answers_of(run, model, concept, "validation")
    if "damage" not in scores.metrics:
        raise SpecError("a dose is found by its damage, which scores.metrics leaves out: add damage to it")
    if not answers:
        raise ModelError(
            f"{model.name} ends its answer to every neutral prompt before the first token, so that no damage can be "
            "measured: see what it writes with `steer generate`, and whether its chat template is right"
        )
    damage = Damage(Setup(model, concept), run.store, answers)
    return Calibration(damage, directions, neutral("validation", scores), spec)


def layer_sweep_rows(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], damage: float) -> TableRows:
    """Rows of every vector's effect on validation items at the dose where its damage is `damage` nats per token.

    Raises ConceptError for a concept without validation items.
    """
    refuse_without_validation(concept, run.spec.scores)
    scores, calibrating = run.spec.scores, calibration(run, model, concept, vectors)
    at = calibrating.at_damage(damage)
    n, damages = run.spec.vectors.controls, calibrating.damage
    controls = [control for one in at for control in rivals_of(one.cell, vectors, n, damages)]
    images = [image for one in at for image in mirrored(one.cell)]
    everything = [calibrating.unsteered, *(one.cell for one in at), *images, *controls]
    items, notify = held_out(concept, "validation", scores), run.progress("sweep layers")
    did = measure_items(calibrating.setup, run.store, everything, items, "validation", ["propensity"], notify)
    run.count("scores", did)
    found = summarise(run.store, everything, did.ids, "validation")
    rows = []
    for one in at:
        mine = found[one.cell.intervention_id]
        effect, over = mine[ODD], mine.get("over_controls")
        row: dict[str, Any] = {"model": model.name, "concept": concept.name}
        row |= {"name": one.cell.vector.own_name if one.cell.vector else None}
        row |= {name: effect[name] for name in ("method", "layer", "layers")}
        row |= {"alpha": one.cell.alpha, "dose": one.dose, "damage": one.damage, "kl": one.kl}
        row |= {"odd_effect": effect["value"], "effect_low": effect["ci_low"], "effect_high": effect["ci_high"]}
        row |= {"over_controls": over["value"] if over else None, "p_value": over["p_value"] if over else None}
        rows.append(row | {"n": effect["n"], "n_missing": effect["n_missing"]})
    return sorted(rows, key=lambda row: -row["odd_effect"] if row["odd_effect"] is not None else math.inf)


def over_layers(spec: Spec, layers: Literal["all"] | tuple[int, ...]) -> Spec:
    """The spec with another choice of layers in its grid."""
    grid = spec.generations.model_copy(update={"layers": layers})
    return spec.model_copy(update={"generations": grid})
