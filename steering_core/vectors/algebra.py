"""Algebra: vectors made of vectors. A result is of the same model and layer; its lineage names what it was made of."""

from collections.abc import Sequence

import numpy as np

from steering_core.foundation.errors import VectorError
from steering_core.vectors.linear import top_components
from steering_core.vectors.vector import PROJECT, Vector, combined


def scaled(vector: Vector, factor: float) -> Vector:
    """`factor` times the vector."""
    return vector * factor


def normalised(vector: Vector) -> Vector:
    """The vector at length 1."""
    return combined("normalised", [vector], vector.in_float64 / vector.norm)


def to_project(vector: Vector) -> Vector:
    """The vector at length 1, to be taken out of the stream only: an expression that adds it is refused."""
    if vector.lineage.get("operation") == PROJECT and abs(vector.norm - 1) < 1e-6:
        return vector
    return combined("normalised", [vector], vector.in_float64 / vector.norm, operation=PROJECT)


def added(one: Vector, other: Vector) -> Vector:
    """one + other."""
    return one + other


def subtracted(one: Vector, other: Vector) -> Vector:
    """one - other."""
    return blended([one, other], [1.0, -1.0])


def blended(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """The sum of the vectors times their weights."""
    total = sum(weight * vector.in_float64 for vector, weight in zip(vectors, weights, strict=True))
    return combined("blended", vectors, np.asarray(total), weights=list(weights))


def interpolated(one: Vector, other: Vector, share: float) -> Vector:
    """(1 - share) * one + share * other: `one` at 0, `other` at 1."""
    return blended([one, other], [1 - share, share])


def orthogonalised(vector: Vector, against: Sequence[Vector]) -> Vector:
    """The vector minus its projection onto the span of `against`; what is left is not rescaled.

    Adding the result does not move the stream along `against`, such as a nuisance that pairs share with the concept.
    Raises VectorError where nothing is left.
    """
    span = top_components(np.array([other.in_float64 / other.norm for other in against]), len(against))  # (≤k, D)
    direction = vector.in_float64
    rest = direction - span.T @ (span @ direction)
    if np.linalg.norm(rest) <= 1e-6 * vector.norm:
        raise VectorError(f"nothing is left of vector {vector.vector_id}: it lies in the span of the others")
    return combined("orthogonalised", [vector, *against], rest)
