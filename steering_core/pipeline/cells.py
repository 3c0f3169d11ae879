"""Every (model, concept) cell of a run in turn; a cell that fails fails alone."""

import logging
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from steering_core.concepts import Concept, load_concept
from steering_core.concepts.library import refuse_namesakes
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.user_files import is_file
from steering_core.foundation.validation import shown
from steering_core.models import Model
from steering_core.pipeline.shortages import shortages
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.pipeline.wanted import capability_sets, side_concepts
from steering_core.runs import Run

log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[\w.-]{1,80}")


def each_cell(run: Run, do: Callable[[Run, Model, Concept], None], stages: Stages = PLAIN) -> None:
    """Do something for every (model, concept) cell of a run whose activations are stored, one model open at a time.

    An error of one cell is that cell's outcome; `run.raise_failures` raises it when the others are done. Raises
    CapabilityError for a capability set that cannot be read, before anything is computed.
    """
    capability_sets(run.spec)
    concepts = _read_concepts(run)
    for said in chain.from_iterable(shortages(run.spec, concept) for concept in concepts):
        log.warning("%s", said)
    for name in run.spec.models if concepts else ():
        with run.guard(name, [concept.name for concept in concepts]):
            model = stages.load_model(run, name)
            try:
                for concept in _extracted(run, model, concepts, stages):
                    with run.guard(name, [concept.name]):
                        do(run, model, concept)
            finally:
                model.close()


def _read_concepts(run: Run) -> list[Concept]:
    """The concepts that can be read; the cells of the others have failed. Raises ConceptError for two of one name."""
    concepts: list[Concept] = []
    for name in run.spec.concepts:
        try:
            concepts.append(load_concept(name))
        except ConceptError as error:
            for model in run.spec.models:
                with run.guard(model, [_called(name)]):
                    raise error
    refuse_namesakes(concepts)
    run.side_concepts = side_concepts(run.spec, concepts)  # what cannot be read is told before anything is computed
    return concepts


def _called(name: str) -> str:
    """The name in `outcomes` of a concept that cannot be read: the same as when it can, since sweeps compare names."""
    if is_file(name):
        return Path(name).stem
    return name if _PLAIN.fullmatch(name) else shown(name)


def _extracted(run: Run, model: Model, concepts: Sequence[Concept], stages: Stages) -> Sequence[Concept]:
    """Concepts whose activations are stored: all at once, or one by one where that fails, so that one fails alone."""
    if len(concepts) > 1:
        try:
            stages.extract_activations(run, model, concepts)
        except Exception as error:  # noqa: BLE001  (which concept it was shows below)
            log.warning("extraction failed (%s): trying concept by concept", error)
        else:
            return concepts
    ready: list[Concept] = []
    for concept in concepts:
        with run.guard(model.name, [concept.name]):
            stages.extract_activations(run, model, [concept])
            ready.append(concept)
    return ready
