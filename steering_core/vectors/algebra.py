"""Algebra: vectors made of vectors. The result is a vector of the same model and layer, and says what it came from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steering_core.foundation.errors import VectorError, VectorMismatch
from steering_core.foundation.keys import content_key
from steering_core.vectors.linear import top_components
from steering_core.vectors.vector import PROJECT, Vector

ALGEBRA_VERSION = 1


def scaled(vector: Vector, factor: float) -> Vector:
    """`factor` times the vector."""
    return _combined("scaled", [vector], factor * _direction(vector), factor=factor)


def normalised(vector: Vector) -> Vector:
    """The vector at length 1."""
    return _combined("normalised", [vector], _direction(vector) / vector.norm)


def to_project(vector: Vector) -> Vector:
    """The vector at length 1, to be taken out of the stream alone: an expression that adds it is refused."""
    if vector.lineage.get("operation") == PROJECT and abs(vector.norm - 1) < 1e-6:
        return vector
    return _combined("normalised", [vector], _direction(vector) / vector.norm, operation=PROJECT)


def added(one: Vector, other: Vector) -> Vector:
    """one + other."""
    return blended([one, other], [1.0, 1.0])


def subtracted(one: Vector, other: Vector) -> Vector:
    """one - other."""
    return blended([one, other], [1.0, -1.0])


def blended(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """The sum of the vectors times their weights."""
    total = sum(weight * _direction(vector) for vector, weight in zip(vectors, weights, strict=True))
    return _combined("blended", vectors, np.asarray(total), weights=list(weights))


def interpolated(one: Vector, other: Vector, share: float) -> Vector:
    """(1 - share) * one + share * other: `one` at 0, `other` at 1."""
    return blended([one, other], [1 - share, share])


def orthogonalised(vector: Vector, against: Sequence[Vector]) -> Vector:
    """The vector without its component in the span of `against`. The rest keeps its length.

    What steers with it no longer moves those directions, such as a nuisance that the pairs share with the concept.
    """
    span = top_components(np.array([_direction(other) / other.norm for other in against]), len(against))  # (≤k, D)
    direction = _direction(vector)
    rest = direction - span.T @ (span @ direction)
    if np.linalg.norm(rest) <= 1e-6 * vector.norm:
        raise VectorError(f"nothing is left of vector {vector.vector_id}: it lies in the span of the others")
    return _combined("orthogonalised", [vector, *against], rest)


def _direction(vector: Vector) -> np.ndarray:
    return vector.direction.astype(np.float64)


def _combined(made: str, parents: Sequence[Vector], direction: np.ndarray, **how: Any) -> Vector:
    """The result of an operation on `parents`, which must be of one model, site and layer. Raises VectorMismatch."""
    first = parents[0]
    for other in parents[1:]:
        if (other.model_id, other.site, other.layer) != (first.model_id, first.site, first.layer):
            raise VectorMismatch(
                f"vectors {first.vector_id} (model {first.model_id}, layer {first.layer}) and {other.vector_id} (model "
                f"{other.model_id}, layer {other.layer}) cannot be {made}: take vectors of one model and layer"
            )
    if not np.isfinite(direction).all() or not np.linalg.norm(direction) > 0:
        raise VectorError(f"{made} {', '.join(p.vector_id for p in parents)} leaves no direction: the result is zero")
    of = [parent.vector_id for parent in parents]
    lineage = {"made": made, "of": of, **how, "version": ALGEBRA_VERSION}
    positions = {parent.position for parent in parents}
    return Vector(
        vector_id=content_key("vector", lineage),
        model_id=first.model_id,
        concept_id=None,
        method=made,
        layer=first.layer,
        residual_norm=float(np.mean([parent.residual_norm for parent in parents])),
        direction=direction.astype(np.float32),
        architecture=first.architecture,
        site=first.site,
        position=first.position if len(positions) == 1 else "mixed",
        n_pairs=sum(parent.n_pairs for parent in parents),
        lineage=lineage,
    )
