"""The bench for texts: with the probe and the judge that a spec wants."""

from collections.abc import Sequence

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.scores.judge import Judge
from steering_core.scores.metrics import Bench
from steering_core.scores.probe import probe_for
from steering_core.scores.scorers import Scorer
from steering_core.spec import ScoresSpec
from steering_core.store import Store


def text_bench(model: Model, store: Store, concept: Concept, wanted: ScoresSpec, cells: Sequence[Cell]) -> Bench:
    """A bench that measures the texts of `cells`; its probe reads a layer that none of them changes."""
    scorers: dict[str, Scorer] = {}
    if wanted.judge:
        scorers["judge"] = Judge(wanted.judge, concept, model.memory_limit)
    if "probe" in wanted.metrics:
        steered = {change.layer for cell in cells for change in cell.intervention.changes}
        if probe := probe_for(model, store, concept, steered):
            scorers["probe"] = probe
    return Bench(model, concept, scorers)
