"""`Vector`: a direction in one layer's residual stream, and everything that says which one."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steering_core.errors import VectorMismatch
from steering_core.interventions.change import Change, Intervention, Phase, Where
from steering_core.models import ModelIdentity
from steering_core.store import Store


@dataclass(frozen=True)
class Vector:
    """A steering vector: `direction` (D,) float32 for the residual stream after block `layer` of one model.

    `control` is None for a vector that a method found, and `random` or `shuffled` for one that stands beside it.
    """

    vector_id: str
    model_id: str
    concept_id: str | None
    method: str
    layer: int
    residual_norm: float
    control: str | None = None
    seed: int | None = None
    direction: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, np.float32))

    @property
    def norm(self) -> float:
        """Length of the direction."""
        return float(np.linalg.norm(self.direction.astype(np.float64)))

    def alpha(self, dose: float) -> float:
        """The multiplier that gives `dose`: alpha * norm / mean residual norm of the layer."""
        return dose * self.residual_norm / self.norm

    def dose(self, alpha: float) -> float:
        """The strength of `alpha`, relative to the layer's mean residual norm."""
        return alpha * self.norm / self.residual_norm

    def check(self, model: ModelIdentity) -> None:
        """Raise VectorMismatch where the vector was not made for `model`."""
        if self.model_id != model.model_id:
            raise VectorMismatch(
                f"vector {self.vector_id} was made for model {self.model_id}, not for {model.name} ({model.model_id}): "
                "derive it for that model"
            )

    def intervention(self, alpha: float, phase: Phase) -> Intervention:
        """alpha times this vector, added at its layer."""
        return Intervention((Change(self.layer, self.direction, alpha, "add", Where(phase)),))


def vectors_by_id(store: Store, vector_ids: list[str]) -> list[Vector]:
    """The stored vectors of those ids, in that order."""
    names = "vector_id, model_id, concept_id, method, layer, residual_norm, control, seed, vector"
    placeholders = ", ".join("?" * len(vector_ids))
    rows = store.rows(f"SELECT {names} FROM raw.vectors WHERE vector_id IN ({placeholders})", vector_ids)
    found = {row["vector_id"]: _vector(row) for row in rows}
    return [found[vector_id] for vector_id in vector_ids]


def _vector(row: dict[str, Any]) -> Vector:
    direction = np.asarray(row.pop("vector"), np.float32)
    return Vector(**row, direction=direction)
