"""A dose response: what one vector, wherever it comes from, does to a concept's held-out items at each dose."""

from collections.abc import Mapping, Sequence
from typing import Any

from steering_core.candidates.cell import NONE, RANDOM, Cell, unsteered
from steering_core.candidates.chance_controls import turned_controls
from steering_core.concepts import Concept, Split
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.progress import Progress, silent
from steering_core.interventions.expression import Amount
from steering_core.models import Model
from steering_core.pipeline.rows import store_items
from steering_core.pipeline.stages import registered
from steering_core.pipeline.wanted import held_out, neutral
from steering_core.scores.measure import measure_items, measure_neutral
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import summarise
from steering_core.spec import ScoresSpec
from steering_core.store import Store
from steering_core.vectors.vector import Vector

CANDIDATE = "candidate"
_KINDS = {None: CANDIDATE, NONE: NONE, RANDOM: RANDOM}


def dose_rows(
    store: Store,
    model: Model,
    concept: Concept,
    vector: Vector,
    doses: Sequence[float],
    split: Split,
    controls: int,
    scores: ScoresSpec,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """A row for no steering, each dose, and each of its `controls` (the vector turned at random), by dose.

    What is measured is stored, as a run's is. Of `scores`, `items` and `neutral` count.
    """
    items = held_out(concept, split, scores)
    if not items:
        raise ConceptError(
            f"the concept {concept.name} has no held-out items in the split {split}: give it items=, questions with a "
            "matching and a not matching answer, on which doses are measured"
        )
    with store.in_use():
        registered(store, model)
        store_items(store, [concept])
        store.append("vectors", [vector.row()])
        setup, base = Setup(model, concept), unsteered(model.identity, concept)
        whose = (model.identity.model_id, concept.concept_id)
        candidates = [Cell.adding_amounts(*whose, "generation", [vector], [Amount.of_dose(dose)]) for dose in doses]
        cells = [base, *candidates, *(control for cell in candidates for control in turned_controls(cell, controls))]
        did = measure_items(setup, store, cells, items, split, ["propensity"], progress)
        did += measure_neutral(setup, store, cells, neutral(split, scores), split, ["kl"], progress)
        found = summarise(store, cells, did.ids, split)
    whose_rows = {"model": model.name, "concept": concept.name, "name": vector.own_name}
    rows = [whose_rows | _row(cell, vector, split, found[cell.intervention_id]) for cell in cells]
    return sorted(rows, key=lambda row: (round(row["dose"], 4), row["kind"]))  # norms differ in their last digits


def _row(cell: Cell, vector: Vector, split: Split, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    effect, over = scores["effect"], scores.get("over_controls")
    return {
        "kind": _KINDS[cell.control],
        "method": "+".join(vector.method for vector in cell.vectors) or None,
        "layer": vector.layer,
        "split": split,
        "dose": cell.dose or 0.0,
        "alpha": cell.alpha,
        "effect": effect["value"],
        "effect_low": effect["ci_low"],
        "effect_high": effect["ci_high"],
        "over_controls": over["value"] if over else None,
        "p_value": over["p_value"] if over else None,
        "kl": scores["kl"]["value"],
        "n": effect["n"],
        "n_missing": effect["n_missing"],
    }
