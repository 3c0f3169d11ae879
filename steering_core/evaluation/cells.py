"""Cells: the interventions of one concept's grid on one model, candidates and controls alike."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.concepts import Concept
from steering_core.interventions.change import Intervention, Phase
from steering_core.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.vectors.vector import Vector

NONE, RANDOM, SHUFFLED, PROMPT = "none", "random", "shuffled", "prompt"
CHANCE_CONTROLS = (RANDOM, SHUFFLED)  # what a direction without meaning does


@dataclass(frozen=True)
class Cell:
    """One intervention of a grid: alpha times a vector, or a system prompt, or nothing at all.

    `control` is None for a candidate; otherwise none, random, shuffled or prompt.
    """

    model_id: str
    concept_id: str
    phase: Phase
    control: str | None = None
    vector: Vector | None = None
    alpha: float = 0.0
    system: str | None = None

    @property
    def intervention(self) -> Intervention:
        """What is done to the residual stream."""
        return self.vector.intervention(self.alpha, self.phase) if self.vector else Intervention()

    @property
    def dose(self) -> float:
        """Strength relative to the layer's mean residual norm."""
        return self.vector.dose(self.alpha) if self.vector else 0.0

    @property
    def expression(self) -> str:
        """The intervention in words."""
        if self.system is not None:
            return f"system: {self.system}"
        if self.vector is None:
            return "none"
        return f"{self.alpha:g}*{self.vector.vector_id} @{self.phase}"

    @property
    def intervention_id(self) -> str:
        """Content key of what is done, whichever concept or grid it came from."""
        if self.vector is None:
            return content_key("intervention", self.system)
        return content_key("intervention", self.vector.vector_id, self.alpha, self.phase)

    def stands_beside(self, other: "Cell") -> bool:
        """Whether both push the same layer equally hard, with vectors of one method or of its controls."""
        if self.vector is None or other.vector is None or self.phase != other.phase:
            return False
        same = (self.vector.method, self.vector.layer) == (other.vector.method, other.vector.layer)
        return same and math.isclose(self.dose, other.dose, rel_tol=1e-6)

    def columns(self) -> dict[str, Any]:
        """The cell as the columns that every table of results carries (`steering_core.store.CELL`)."""
        return {
            "model_id": self.model_id,
            "concept_id": self.concept_id,
            "intervention_id": self.intervention_id,
            "intervention": self.expression,
            "method": self.vector.method if self.vector else None,
            "layer": self.vector.layer if self.vector else None,
            "alpha": self.alpha,
            "dose": self.dose,
            "control": self.control,
            "phase": self.phase if self.vector else None,
            "vector_id": self.vector.vector_id if self.vector else None,
        }


def unsteered(model: ModelIdentity, concept: Concept, phase: Phase) -> Cell:
    """The control that does nothing: alpha 0."""
    return Cell(model.model_id, concept.concept_id, phase, control=NONE)


def candidates(
    model: ModelIdentity, concept: Concept, vectors: Sequence[Vector], strengths: "Strengths", phase: Phase
) -> list[Cell]:
    """Every vector that is no control, at every strength."""
    return [
        Cell(model.model_id, concept.concept_id, phase, vector=vector, alpha=alpha)
        for vector in vectors
        if vector.control is None
        for alpha in strengths.alphas(vector)
    ]


@dataclass(frozen=True)
class Strengths:
    """The grid's strengths, relative (`doses`) or absolute (`absolute`)."""

    doses: tuple[float, ...] = ()
    absolute: tuple[float, ...] = ()

    def alphas(self, vector: Vector) -> list[float]:
        """The multipliers of one vector."""
        return list(self.absolute) or [vector.alpha(dose) for dose in self.doses]


def chance_controls(cell: Cell, vectors: Sequence[Vector]) -> list[Cell]:
    """Random directions and shuffled labels at a candidate's layer and dose: what any vector would do there."""
    if cell.vector is None:
        return []
    place = (cell.vector.method, cell.vector.layer)
    return [
        Cell(cell.model_id, cell.concept_id, cell.phase, vector.control, vector, vector.alpha(cell.dose))
        for vector in vectors
        if vector.control in CHANCE_CONTROLS and (vector.method, vector.layer) == place
    ]


def prompted(model: ModelIdentity, concept: Concept, phase: Phase, positive: bool = True) -> list[Cell]:
    """The system-prompt baseline, where the concept has instructions."""
    if concept.instructions is None:
        return []
    wanted = concept.instructions.positive if positive else concept.instructions.negative
    return [Cell(model.model_id, concept.concept_id, phase, PROMPT, system=wanted)]


def mirrored(cell: Cell) -> Cell:
    """The same vector as hard the other way."""
    return dataclasses.replace(cell, alpha=-cell.alpha)


@dataclass(frozen=True)
class Trial:
    """What is compared on the test split: a chosen candidate among `cells`, out of so many candidates compared."""

    chosen: Cell
    cells: list[Cell]
    comparisons: int
