"""The grid: every vector of a concept, alone or with those that it was trained with, at every strength."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steering_core.candidates.cell import DIGITS, Cell
from steering_core.concepts import Concept
from steering_core.interventions.change import Phase
from steering_core.interventions.expression import Amount
from steering_core.models import ModelIdentity
from steering_core.vectors.methods import is_joint
from steering_core.vectors.vector import Vector


@dataclass(frozen=True)
class Strengths:
    """The grid's strengths, relative (`doses`) or absolute (`absolute`, alphas)."""

    doses: tuple[float, ...] = ()
    absolute: tuple[float, ...] = ()

    @property
    def amounts(self) -> list[Amount]:
        """The strengths of every vector, as they were asked for."""
        return [Amount(alpha) for alpha in self.absolute] or [Amount.of_dose(dose) for dose in self.doses]


def candidates(
    model: ModelIdentity, concept: Concept, vectors: Sequence[Vector], strengths: Strengths, phase: Phase
) -> list[Cell]:
    """Every vector that is no control, at every strength; the vectors of one joint fit are one candidate."""
    together: dict[str, list[Vector]] = {}
    for vector in (vector for vector in vectors if vector.control is None):
        together.setdefault(vector.method if is_joint(vector.method) else vector.vector_id, []).append(vector)
    found = []
    for some in together.values():
        of = (model.model_id, concept.concept_id, phase, some)
        first, *others = [Cell.adding_amounts(*of, _shared(some, amount)) for amount in strengths.amounts]
        found += [first, *(replace(cell, along=first.direction) for cell in others)]
    return found


def _shared(vectors: Sequence[Vector], amount: Amount) -> list[Amount]:
    """One strength for vectors that act together: a dose in their proportions, an alpha as the multiplier of each."""
    if len(vectors) == 1 or not amount.percent:
        return [amount] * len(vectors)
    return [Amount(amount.value * share, percent=True).rounded(DIGITS) for share in proportions(vectors)]


def independent(vectors: Sequence[Vector]) -> int:
    """How many fits gave the vectors: one each, and one for all vectors of a joint method."""
    return len({vector.method if is_joint(vector.method) else vector.vector_id for vector in vectors})


def proportions(vectors: Sequence[Vector]) -> list[float]:
    """What part of a dose each vector has: dose / sum of doses where all are of a joint method; else 1 each."""
    if not all(is_joint(vector.method) for vector in vectors):
        return [1.0] * len(vectors)
    doses = [vector.norm / vector.residual_norm for vector in vectors]
    return [dose / sum(doses) for dose in doses]
