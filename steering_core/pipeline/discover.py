"""Discovery: the order of the stages, from a concept's activations to a recommendation, and whole specs.

`run` executes a whole spec in this process. `flows/` hands the same stages in as Prefect tasks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from steering_core.candidates.cell import Trial, mirrored, prompted
from steering_core.candidates.chance import chance_controls
from steering_core.concepts import Concept
from steering_core.evaluation.recommendations import choose
from steering_core.evaluation.search import Shortlist
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.pipeline.wanted import bounds, candidate_cells
from steering_core.runs import Run
from steering_core.scores.summary import Scores
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector

Notify = Callable[[str, int, int], None]


def run(
    spec: Spec, store: Store, notify: Notify = lambda what, done, total: None, stages: Stages = PLAIN
) -> dict[str, Any]:
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
    """Vectors, search, choice on validation and trial on test for one concept whose activations are stored."""
    cell = (run, model, concept)
    vectors = stages.derive_vectors(*cell)
    grid = candidate_cells(run.spec, run.store, model, concept, vectors)
    shortlist = stages.search_cells(*cell, grid, vectors)
    texts = stages.generate_samples(*cell, shortlist.cells, "validation")
    scores = stages.score_shortlist(*cell, shortlist, texts)
    trial = trial_of(*cell, shortlist, vectors, scores)
    texts = stages.generate_samples(*cell, trial.cells, "test")
    return stages.recommend_vector(*cell, trial, stages.score_trial(*cell, trial, texts))


def trial_of(
    run: Run, model: Model, concept: Concept, found: Shortlist, vectors: Sequence[Vector], scores: Scores
) -> Trial:
    """The shortlist's best on validation, and what it meets on test: alpha 0, its mirror image, its controls."""
    unsteered, *candidates = found.cells
    chosen = choose(candidates, scores, bounds(run.spec))
    rivals = [*chance_controls(chosen, vectors), *prompted(model.identity, concept, chosen.way > 0)]
    return Trial(chosen, [unsteered, chosen, *mirrored(chosen), *rivals], len(found.tried) - 1)
