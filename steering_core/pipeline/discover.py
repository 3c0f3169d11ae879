"""Discovery: the order of the stages, from a concept's activations to a recommendation, and whole specs.

`run` executes a whole spec in this process. `flows/` hands the same stages in as Prefect tasks.
"""

import logging
from functools import partial
from typing import Any

from steering_core.concepts import Concept
from steering_core.evaluation.recommendations import OtherChanges, lack_of_items, lack_of_labels
from steering_core.foundation.progress import Notify, notify_nobody
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.pipeline.wanted import candidate_cells, held_out, library_vectors, refuse_without_choice
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.relabelling import Relabellings

log = logging.getLogger(__name__)


def run(spec: Spec, store: Store, notify: Notify = notify_nobody, stages: Stages = PLAIN) -> dict[str, Any]:
    """Execute a whole spec; the run's report, as `steer run --json` prints it. Raises RunIncomplete at its end."""
    with Run(spec, store, notify) as this:
        each_cell(this, partial(discover_cell, stages=stages), stages)
        report = this.finish()
    this.raise_failures(report)
    return report


def discover_cell(run: Run, model: Model, concept: Concept, stages: Stages = PLAIN) -> None:
    """`discover` one cell of a run: its recommendation, or the error that it failed with, is the cell's outcome."""
    with run.cell(model.name, concept.name) as found:
        found.append(discover(run, model, concept, stages))


def discover(run: Run, model: Model, concept: Concept, stages: Stages = PLAIN) -> dict[str, Any]:
    """Vectors, search, choice on validation and trial on test for one concept whose activations are stored.

    Raises ConceptError, before vectors are derived, for a concept all of whose items are in the test split.
    """
    refuse_without_choice(concept, run.spec.scores)
    cell = (run, model, concept)
    warn_of_lacks(run.spec, concept)
    vectors = stages.derive_vectors(*cell)
    library = library_vectors(run.spec, run.store, model, vectors)
    grid = candidate_cells(run.spec, run.store, model, concept, vectors, library)
    shortlist = stages.search_cells(*cell, grid, vectors)
    texts = stages.generate_samples(*cell, shortlist.cells, "validation")
    stages.score_shortlist(*cell, shortlist, texts)
    choice = stages.choose_candidate(*cell, shortlist, vectors)
    texts = stages.generate_samples(*cell, choice.trial.cells, "test")
    scores = stages.score_trial(*cell, choice, texts)
    chance = stages.search_chance(*cell, choice, vectors, library, scores)
    others = OtherChanges(stages.measure_side_effects(*cell, choice), stages.measure_capabilities(*cell, choice))
    return stages.recommend_vector(*cell, choice, scores, chance, others)


def warn_of_lacks(spec: Spec, concept: Concept) -> None:
    """Log why no run of a spec can reach a verdict on a concept, where there is a reason."""
    for lack in lacks(spec, concept):
        log.warning("%s: this run cannot reach a verdict. %s", concept.name, lack)


def lacks(spec: Spec, concept: Concept) -> list[str]:
    """Why no run of a spec can reach a verdict on a concept: too few test items, or too few training rows.

    Training rows do not limit a spec that derives nothing from them, or that names expressions.
    """
    found = [lack_of_items(len(held_out(concept, "test", spec.scores)))]
    if spec.vectors.methods and not spec.generations.expressions:
        found.append(lack_of_labels(Relabellings.of(concept)))
    return [lack for lack in found if lack]
