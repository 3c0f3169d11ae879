"""`Vector`: a direction in one layer's residual stream, and everything that says which one."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.foundation.errors import InterventionError, VectorMismatch, VectorNotFound
from steering_core.interventions.change import Change, Intervention, Phase, Where
from steering_core.interventions.declarations import ADD
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store

log = logging.getLogger(__name__)
PROJECT = "project"  # the operation, in a lineage, of a vector that a file declares to be taken out of the stream


@dataclass(frozen=True)
class Vector:
    """A steering vector: `direction` (D,) float32 for the residual stream after 0-based block `layer` of one model.

    `control` is None for a vector that a method found, and `random` or `shuffled` for one that stands beside it.
    `position` says at which tokens the activations were read, `n_pairs` how many pairs it comes from, and `lineage`
    what made it: `derived` from activations, an operation of `algebra` on other vectors, or an import.
    """

    vector_id: str
    model_id: str
    concept_id: str | None
    method: str
    layer: int
    residual_norm: float
    control: str | None = None
    seed: int | None = None
    direction: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.zeros(0, np.float32))
    architecture: str | None = None
    site: str = "resid_post"
    position: str = "last"
    n_pairs: int = 0
    lineage: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    gates: dict[str, float] = field(default_factory=dict, repr=False, compare=False)  # threshold over mean, over token

    @property
    def norm(self) -> float:
        """Length of the direction."""
        return float(np.linalg.norm(self.direction.astype(np.float64)))

    @property
    def derived(self) -> bool:
        """Whether a method made it from a concept's pairs in the store; otherwise it was imported or calculated."""
        return self.concept_id is not None and self.lineage.get("made") == "derived"

    def alpha(self, dose: float) -> float:
        """The multiplier that gives `dose`: alpha * norm / mean residual norm of the layer."""
        return dose * self.residual_norm / self.norm

    def dose(self, alpha: float) -> float:
        """The strength of `alpha`, relative to the layer's mean residual norm."""
        return alpha * self.norm / self.residual_norm

    def check(self, model: ModelIdentity, *, same_family: bool = False) -> None:
        """Raise VectorMismatch where the vector was not made for `model`.

        With `same_family` one of another model of the same architecture and width passes, with a warning.
        """
        if weights_of(self.model_id) == weights_of(model.model_id):
            return
        fits = self.architecture == model.architecture and len(self.direction) == model.width
        if fits and same_family:
            log.warning(
                "vector %s was made for model %s and is used on %s (%s): same architecture and width, but whether it "
                "means the same there is for you to measure",
                self.vector_id,
                self.model_id,
                model.name,
                model.model_id,
            )
            return
        other = f"{self.architecture or 'unknown architecture'}, width {len(self.direction)}"
        remedy = "derive it for that model" + (", or allow vectors of the same family" if fits else "")
        raise VectorMismatch(
            f"vector {self.vector_id} was made for model {self.model_id} ({other}), not for {model.name} "
            f"({model.model_id}; {model.architecture}, width {model.width}): {remedy}"
        )

    def check_added(self, called: str | None = None) -> None:
        """Raise InterventionError where the vector came from a file that declares it to be taken out, not added."""
        if self.lineage.get("operation") == PROJECT:
            name = called or self.vector_id
            raise InterventionError(
                f"{name} is a direction to take out of the stream, as the file that it came from declares, and adding "
                f"it would steer towards what it should remove: write !{name}. To add it all the same, make a vector "
                f"of it: steer vectors blend {name} --name NEW"
            )

    def intervention(self, alpha: float, phase: Phase) -> Intervention:
        """alpha times this vector, added at its layer. Raises InterventionError for one that is to be taken out."""
        self.check_added()
        return Intervention((Change(self.layer, self.direction, alpha, ADD.name, Where(phase)),))

    def row(self, prompt_ids: Sequence[str] = ()) -> dict[str, Any]:
        """The vector as a row of the store's table; `prompt_ids` are the prompts whose activations it comes from."""
        return {
            "vector_id": self.vector_id,
            "model_id": self.model_id,
            "concept_id": self.concept_id,
            "method": self.method,
            "control": self.control,
            "site": self.site,
            "position": self.position,
            "layer": self.layer,
            "seed": self.seed,
            "norm": self.norm,
            "residual_norm": self.residual_norm,
            "n_pairs": self.n_pairs,
            "prompt_ids": list(prompt_ids),
            "lineage": json.dumps(self.lineage),
            "vector": self.direction,
        }


def vectors_by_id(store: Store, vector_ids: Sequence[str]) -> list[Vector]:
    """The stored vectors of those ids, in that order. Raises VectorNotFound for one that is not there."""
    wanted = pa.table({"vector_id": pa.array(sorted(set(vector_ids)), pa.string())})
    rows = store.rows(
        "SELECT v.* EXCLUDE (norm, prompt_ids), m.architecture FROM wanted JOIN raw.vectors v USING (vector_id) "
        "LEFT JOIN raw.models m USING (model_id)",
        wanted=wanted,
    )
    gates = store.rows("SELECT vector_id, over, threshold FROM gates SEMI JOIN wanted USING (vector_id)", wanted=wanted)
    found = {row["vector_id"]: _vector(row) for row in rows}
    for gate in gates:
        if gate["vector_id"] in found:
            found[gate["vector_id"]].gates[gate["over"]] = gate["threshold"]
    if missing := [i for i in vector_ids if i not in found]:
        raise VectorNotFound(f"the store has no vector {missing[0]}: run the spec that derives it again")
    return [found[vector_id] for vector_id in vector_ids]


def _vector(row: dict[str, Any]) -> Vector:
    direction = np.asarray(row.pop("vector"), np.float32)
    return Vector(**{**row, "lineage": json.loads(row["lineage"])}, direction=direction)


def cosine(one: Vector, other: Vector) -> float:
    """Cosine of two directions, -1 .. 1. Raises VectorMismatch where their widths differ."""
    if len(one.direction) != len(other.direction):
        raise VectorMismatch(
            f"vectors {one.vector_id} and {other.vector_id} have widths {len(one.direction)} and "
            f"{len(other.direction)}: only vectors of one width can be compared"
        )
    product = float(one.direction.astype(np.float64) @ other.direction.astype(np.float64))
    return product / (one.norm * other.norm)
