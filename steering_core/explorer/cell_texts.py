"""Texts of a heat map's cell, sampled when somebody asks: a run samples them for its shortlist alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from steering_core.candidates.cell import Cell, unsteered
from steering_core.candidates.generations import asked, generate
from steering_core.concepts import Concept
from steering_core.concepts.stored import stored_concept
from steering_core.foundation.errors import InterventionError, StoreDamaged, VectorMismatch
from steering_core.foundation.validation import shown
from steering_core.interventions.parsing import stored
from steering_core.models import Model
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.store.values import stored_object
from steering_core.vectors.stored import vectors_by_id

_AT_ONCE = 4  # prompts: a step of many rows takes little longer than one of few
_CELL = """
SELECT intervention, vector_ids, control, model_id
FROM raw.scores
WHERE concept_id = ? AND intervention_id = ?
ORDER BY model_id = ? DESC
LIMIT 1
"""
_SPECS = """
SELECT spec
FROM raw.runs
WHERE list_contains(model_ids, ?) AND list_contains(concept_ids, ?)
ORDER BY started_at DESC
"""


@dataclass(frozen=True)
class CellTexts:
    """What is sampled for one cell: the validation split's open prompts, answered as in the concept's latest run."""

    cell: Cell
    concept: Concept
    spec: GenerationsSpec

    @cached_property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The open prompts that the cell answers, as many at a time as others' texts may well wait for."""
        prompts = asked(self.concept, "validation", self.spec.prompts)
        return tuple(prompts[i : i + _AT_ONCE] for i in range(0, len(prompts), _AT_ONCE))

    def sample(self, model: Model, store: Store, prompts: Sequence[str]) -> int:
        """Have the store hold the cell's and the unsteered model's texts of those prompts; how many were sampled."""
        both = [text for text in prompts for _ in (0, 1)]  # a concept's every other prompt is its validation split's
        concept = self.concept.model_copy(update={"prompts": tuple(both)})
        cells = [self.cell, unsteered(model.identity, self.concept)]
        return generate(model, store, concept, cells, self.spec, "validation", waits=False).work.computed


def cell_texts(model: Model, store: Store, concept_id: str, intervention_id: str) -> CellTexts:
    """What there is to sample for a cell that was scored.

    Raises InterventionError for one that was not, and VectorMismatch where that was another model.
    """
    rows = store.rows(_CELL, [concept_id, intervention_id, model.identity.model_id])
    concept = stored_concept(store, concept_id)
    if not rows or concept is None or rows[0]["control"] is not None:
        raise InterventionError(
            f"no candidate {intervention_id!r} of that concept was scored: choose a cell of the chart"
        )
    (found,) = rows
    if found["model_id"] != model.identity.model_id:
        raise VectorMismatch(
            f"that cell was scored on another model than {model.name} as it is now: run its spec again"
        )
    vectors = tuple(vectors_by_id(store, found["vector_ids"]))
    cell = Cell(model.identity.model_id, concept_id, stored(found["intervention"]), vectors)
    if cell.intervention_id != intervention_id:
        raise StoreDamaged(
            f"raw.scores.intervention holds {shown(found['intervention'])} under {intervention_id}, another's key: "
            "another program wrote this store, or an operation of yours is not registered here; run the spec again in "
            "a new store"
        )
    return CellTexts(cell, concept, _sampling(model, store, concept_id))


def _sampling(model: Model, store: Store, concept_id: str) -> GenerationsSpec:
    """How the latest run of the model and the concept sampled; the defaults where none says so as specs are today."""
    for row in store.rows(_SPECS, [model.identity.model_id, concept_id]):
        try:
            found = stored_object("raw.runs.spec", row["spec"]).get("generations")
            return GenerationsSpec.model_validate(found, strict=False)
        except ValidationError:  # a spec of an older version
            continue
    return GenerationsSpec()
