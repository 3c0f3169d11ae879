"""Cells: the interventions of one concept's grid on one model, candidates and controls alike.

A cell is an expression over vectors that it names by their keys. Most are alpha times one vector; several vectors, at
one layer or at many, and whatever else the grammar can say, are cells like any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from steering_core.concepts import Concept
from steering_core.foundation.keys import content_key
from steering_core.interventions.change import Intervention, Phase
from steering_core.interventions.declarations import ADD
from steering_core.interventions.expression import Amount, Clause, Expression, Term, VectorName
from steering_core.models import ModelIdentity
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

NONE, RANDOM, SHUFFLED, PROMPT, MIRRORED = "none", "random", "shuffled", "prompt", "mirrored"
WITH_PROMPT = "with_prompt"  # the candidate and the system prompt together
CHANCE_CONTROLS = (RANDOM, SHUFFLED)  # what a direction without meaning does
DIGITS = 6  # of a strength that was computed: further digits differ from machine to machine
DOSE_DIGITS = 12  # of a dose that is told
SAME_DOSE = 1e-5  # relative difference up to which two doses are the same: it is rounding


@dataclass(frozen=True)
class Cell:
    """One intervention of a grid: an expression over `vectors`, or a system prompt, or nothing at all.

    `control` is None for a candidate; otherwise none, random, shuffled, prompt or mirrored. `sign` is 1 for a cell that
    shall move items towards the matching answer, -1 for one that shall move them away. `concept_id` is None where the
    vectors are of no concept, or of several. `control_of` is the intervention_id of a chance control's candidate. The
    strength of a cell that is `as_written` is somebody's own, and no search moves it. `along` is the key of the
    direction that the cell was made along, at another dose.
    """

    model_id: str
    concept_id: str | None
    steering: Expression | None = None
    vectors: tuple[Vector, ...] = ()
    control: str | None = None
    system: str | None = None
    sign: int = 1
    control_of: str | None = None
    as_written: bool = False
    along: str | None = field(default=None, compare=False, repr=False)

    @classmethod
    def adding(
        cls, model_id: str, concept_id: str | None, phase: Phase, vectors: Sequence[Vector], alphas: Sequence[float]
    ) -> "Cell":
        """Alpha times each vector, added at its own layer."""
        return cls.adding_amounts(model_id, concept_id, phase, vectors, [Amount(alpha) for alpha in alphas])

    @classmethod
    def adding_amounts(
        cls, model_id: str, concept_id: str | None, phase: Phase, vectors: Sequence[Vector], amounts: Sequence[Amount]
    ) -> "Cell":
        """Each amount, an alpha or a dose, of its vector, added at the vector's own layer.

        A dose is kept as a dose: its alpha is computed from norms, whose last digits differ from machine to machine,
        and with them the cell's key would.
        """
        both = zip(vectors, amounts, strict=True)
        terms = tuple(Term(VectorName(vector.vector_id), amount) for vector, amount in both)
        sign = -1 if max(amount.value for amount in amounts) < 0 else 1
        return cls(model_id, concept_id, Expression((Clause(terms, phase=phase),)), tuple(vectors), sign=sign)

    @cached_property
    def intervention(self) -> Intervention:
        """What is done to the residual stream."""
        by_key = {vector.vector_id: vector for vector in self.vectors}
        return resolved(self.steering, by_key.__getitem__) if self.steering else Intervention()

    @cached_property
    def layers(self) -> list[int]:
        """The layers that are changed, ascending."""
        return sorted({change.layer for change in self.intervention.changes})

    @cached_property
    def dose(self) -> float | None:
        """Sum over layers of the length of what is added / the layer's mean residual norm, times `sign`.

        None where another operation than adding is done.
        """
        added: dict[int, np.ndarray] = {}
        for change in self.intervention.changes:
            if change.operation != ADD.name:
                return None
            before = added.get(change.layer, np.zeros(change.direction.shape))
            added[change.layer] = before + change.amount * change.direction.astype(np.float64)
        norms = {v.layer: v.residual_norm for v in reversed(self.vectors)}
        usual = next(iter(norms.values()), 1.0)  # for a vector that is added at another layer than its own
        doses = [float(np.linalg.norm(total)) / (norms.get(layer, usual) or math.nan) for layer, total in added.items()]
        # A dose that was asked for comes back from alpha and norms with an error in its last digits.
        return float(f"{self.sign * sum(doses):.{DOSE_DIGITS}g}") if all(map(math.isfinite, doses)) else None

    @property
    def vector(self) -> Vector | None:
        """The one vector of a cell that adds a multiple of it to its layer and does nothing else."""
        if self.steering is None or len(self.steering.clauses) != 1:
            return None
        (clause,) = self.steering.clauses
        plain = clause == Clause(clause.terms, phase=clause.phase) and len(clause.terms) == 1
        return self.vectors[0] if plain and isinstance(clause.terms[0].vector, VectorName) else None

    @property
    def alpha(self) -> float | None:
        """The multiplier of the cell's one `vector`; 0 without any vector; None for anything else."""
        if self.steering is None:
            return 0.0
        return self.intervention.changes[0].amount if self.vector else None

    @property
    def expression(self) -> str:
        """The intervention in words, as `steer generate --steer` takes it."""
        if self.system is None:
            return str(self.steering or "none")
        return f"{self.steering}, system: {self.system}" if self.steering else f"system: {self.system}"

    @cached_property
    def intervention_id(self) -> str:
        """Content key of what is done, whichever concept or grid it came from."""
        return content_key("intervention", self.system, str(self.steering))

    @property
    def key(self) -> tuple[str, str | None]:
        """What tells the cell from the others of its grid: its intervention, and which control it is."""
        return self.intervention_id, self.control

    @cached_property
    def direction(self) -> str:
        """A key that is the same for cells that differ only in their strength.

        Strengths are rounded, and with them the shares of several vectors, so a cell keeps the key that it came from.
        """
        if self.along:
            return self.along
        if not self.dose:
            return self.intervention_id
        changes = self.intervention.changes
        shares = [f"{change.layer}: {change.amount / self.dose:.5g} {change.where}" for change in changes]
        seen = [(c.layer, c.threshold, c.above, c.over) for change in changes if (c := change.condition)]
        return content_key("direction", shares, seen, [vector.vector_id for vector in self.vectors])

    def at(self, dose: float) -> "Cell":
        """The same direction at another dose, negative for the opposite one.

        The cell itself where it has that dose already, or has no dose.
        """
        if not self.dose or math.isclose(dose, self.dose, rel_tol=SAME_DOSE):
            return self
        factor = dose / self.dose
        assert self.steering is not None, "only vectors make a dose"
        sign = self.sign if factor >= 0 else -self.sign
        steering = self.steering.times(factor).rounded(DIGITS)
        return replace(self, steering=steering, sign=sign, along=self.direction)

    def is_control_of(self, candidate: "Cell") -> bool:
        """Whether this cell is a chance control of `candidate`."""
        return self.control_of == candidate.intervention_id

    def columns(self) -> dict[str, Any]:
        """The cell as the columns that every table of results carries (`steering_core.store.CELL`)."""
        phases = {change.where.phase for change in self.intervention.changes}
        return {
            "model_id": self.model_id,
            "concept_id": self.concept_id,
            "intervention_id": self.intervention_id,
            "intervention": self.expression,
            "method": "+".join(dict.fromkeys(vector.method for vector in self.vectors)) or None,
            "layer": self.layers[0] if len(self.layers) == 1 else None,
            "layers": self.layers,
            "alpha": self.alpha,
            "dose": self.dose,
            "control": self.control,
            "phase": next(iter(phases)) if len(phases) == 1 else None,
            "vector_id": self.vector.vector_id if self.vector else None,
            "vector_ids": [vector.vector_id for vector in self.vectors],
        }


def unsteered(model: ModelIdentity, concept: Concept) -> Cell:
    """The control that does nothing: alpha 0."""
    return Cell(model.model_id, concept.concept_id, control=NONE)


def prompted(model: ModelIdentity, concept: Concept, positive: bool = True) -> list[Cell]:
    """The system-prompt baseline, where the concept has instructions."""
    if concept.instructions is None:
        return []
    wanted = concept.instructions.positive if positive else concept.instructions.negative
    return [Cell(model.model_id, concept.concept_id, control=PROMPT, system=wanted)]


def with_prompt(cell: Cell, prompts: Sequence[Cell]) -> list[Cell]:
    """A candidate together with each system prompt of `prompted`; none where it adds no vector."""
    return [replace(cell, control=WITH_PROMPT, system=prompt.system) for prompt in prompts if cell.steering]


def mirrored(cell: Cell) -> list[Cell]:
    """The cell at the opposite dose; none where something else than adding is done, which has no opposite.

    A candidate's mirror image is a control of it; a control's is of its own kind.
    """
    return [replace(cell.at(-cell.dose), control=cell.control or MIRRORED)] if cell.dose else []


@dataclass(frozen=True)
class Trial:
    """What is compared on the test split: a chosen candidate among `cells`."""

    chosen: Cell
    cells: list[Cell]
