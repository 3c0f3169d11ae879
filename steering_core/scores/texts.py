"""The `Setup` that measures texts: with the probe and the judge that a spec wants."""

from collections.abc import Sequence

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.scores.drift import Drift
from steering_core.scores.judge import Judge
from steering_core.scores.metrics import Setup
from steering_core.scores.planted import trusted
from steering_core.scores.probe import probe_for
from steering_core.scores.scorers import Scorer
from steering_core.spec import ScoresSpec
from steering_core.statistics.metric_names import RATINGS
from steering_core.store import Store


def text_setup(model: Model, store: Store, concept: Concept, wanted: ScoresSpec, cells: Sequence[Cell]) -> Setup:
    """A setup that measures the texts of `cells`; its probe reads a layer that none of them changes.

    A judge that may not be trusted (`planted.trusted`) is left out.
    """
    scorers: dict[str, Scorer] = {}
    setup = Setup(model, concept, scorers)
    if wanted.judge and trusted(wanted.judge, concept, store, setup.work, model.memory_limit):
        asked = ("judge",) if wanted.judge.prompt else RATINGS
        scorers |= {metric: Judge(wanted.judge, concept, metric, model.memory_limit) for metric in asked}
    drift = Drift(model, concept, cells, wanted.kl_tokens)
    scorers |= {metric: measure for metric, measure in drift.scorers().items() if metric in wanted.metrics}
    if "probe" in wanted.metrics:
        steered = {change.layer for cell in cells for change in cell.intervention.changes}
        if probe := probe_for(model, store, concept, steered):
            scorers["probe"] = probe
    return setup
