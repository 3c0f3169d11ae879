"""Cells: the interventions of one concept's grid on one model, candidates and controls alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.concepts import Concept
from steering_core.interventions.change import Intervention, Phase
from steering_core.keys import content_key
from steering_core.models import ModelIdentity
from steering_core.vectors.vector import Vector

NONE, RANDOM, SHUFFLED, PROMPT = "none", "random", "shuffled", "prompt"


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


def trial(chosen: Cell, vectors: Sequence[Vector], concept: Concept) -> list[Cell]:
    """The cells that are compared on the test split: the chosen one, its mirror image, and its controls."""
    assert chosen.vector is not None, "only a candidate can be chosen"
    method, layer = chosen.vector.method, chosen.vector.layer
    same = [v for v in vectors if v.control and (v.method, v.layer) == (method, layer)]

    def like(vector: Vector, alpha: float, control: str | None) -> Cell:
        return Cell(chosen.model_id, chosen.concept_id, chosen.phase, control, vector, alpha)

    mirrored = like(chosen.vector, -chosen.alpha, None)
    controls = [like(vector, vector.alpha(chosen.dose), vector.control) for vector in same]
    prompted = []
    if concept.instructions:
        wanted = concept.instructions.positive if chosen.alpha > 0 else concept.instructions.negative
        prompted = [Cell(chosen.model_id, chosen.concept_id, chosen.phase, PROMPT, system=wanted)]
    return [chosen, mirrored, *controls, *prompted]
