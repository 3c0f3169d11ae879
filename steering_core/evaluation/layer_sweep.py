"""Layer sweep: what each layer's vector does at equal damage, beside its controls."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from steering_core.concepts import Concept
from steering_core.evaluation.calibration import Calibration
from steering_core.evaluation.cells import chance_controls
from steering_core.evaluation.recommendations import Bounds
from steering_core.models import Model
from steering_core.pipeline import held_out, neutral
from steering_core.runs import Run
from steering_core.scores.measure import measure_items
from steering_core.scores.metrics import Bench
from steering_core.scores.summary import summarise
from steering_core.vectors.vector import Vector


def calibrated(
    run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], texts: bool
) -> list[dict[str, Any]]:
    """Rows of the largest alpha within the spec's bounds for every candidate vector; KL alone without `texts`."""
    scores = run.spec.scores
    candidates = [vector for vector in vectors if vector.control is None]
    found = Calibration(Bench(model, concept), run.store, candidates, run.spec.generations).within(
        Bounds(scores.max_perplexity_ratio, scores.max_kl), neutral("validation", scores), texts
    )
    return [{"model": model.name, "concept": concept.name, **one.row()} for one in found]


def swept(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector], kl: float) -> list[dict[str, Any]]:
    """Rows of every vector's effect on validation items at the dose where it moves neutral next tokens by `kl` nats."""
    scores, bench = run.spec.scores, Bench(model, concept)
    candidates = [vector for vector in vectors if vector.control is None]
    calibration = Calibration(bench, run.store, candidates, run.spec.generations)
    at = calibration.within(Bounds(scores.max_perplexity_ratio, kl), neutral("validation", scores), texts=False)
    cells = [cell for cell in calibration.cells([one.dose for one in at]) if cell.alpha != 0]
    controls = [control for cell in cells for control in chance_controls(cell, vectors)]
    everything = [calibration.unsteered, *cells, *controls]
    items, notify = held_out(concept, "validation", scores), run.progress("sweep layers")
    did = measure_items(bench, run.store, everything, items, "validation", ["propensity"], notify)
    run.count("scores", did)
    found = summarise(run.store, everything, did.measurement_ids, "validation", scores.bootstrap, scores.seed)
    damage = {one.vector.vector_id: one.kl for one in at}
    rows = []
    for cell in cells:
        effect, over = found[cell.intervention_id]["effect"], found[cell.intervention_id].get("over_controls")
        row = {"model": model.name, "concept": concept.name, "method": effect["method"], "layer": effect["layer"]}
        row |= {"alpha": cell.alpha, "dose": cell.dose, "kl": damage[str(effect["vector_id"])]}
        row |= {"effect": effect["value"], "effect_low": effect["ci_low"], "effect_high": effect["ci_high"]}
        row |= {"over_controls": over["value"] if over else None, "p_value": over["p_value"] if over else None}
        rows.append(row | {"n": effect["n"]})
    return sorted(rows, key=lambda row: -row["effect"])


def over_layers(run: Run, layers: str | tuple[int, ...]) -> Run:
    """The run with another choice of layers in its grid."""
    grid = run.spec.generations.model_copy(update={"layers": layers})
    return replace(run, spec=run.spec.model_copy(update={"generations": grid}))
