"""Chance controls: a candidate's intervention along directions that mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from steering_core.candidates.cell import RANDOM, SHUFFLED, Cell
from steering_core.foundation.keys import content_key, seed_from
from steering_core.vectors.controls import turned
from steering_core.vectors.vector import Vector

CHANCE_VERSION = 2


def chance_controls(cell: Cell, vectors: Sequence[Vector], n: int) -> list[Cell]:
    """The candidate with random directions, or those of shuffled labels, in its vectors' place, at its layers and dose.

    `vectors` are those that the run derived, with their controls. Several vectors, and vectors that the run did not
    derive, are turned together at random, `n` times: lengths and angles between them stay.
    """
    if cell.steering is None:
        return []
    acting = [vector for vector in cell.vectors if vector.vector_id in cell.steering.acting]
    stand_ins = [(RANDOM, found) for found in _random(acting, vectors, n)]
    stand_ins += [(SHUFFLED, found) for found in _shuffled(acting, vectors)]
    return [_along(cell, control, found) for control, found in stand_ins]


def turned_controls(cell: Cell, n: int) -> list[Cell]:
    """The candidate with its vectors turned together at random, `n` times, at its layers and dose."""
    if cell.steering is None:
        return []
    acting = [vector for vector in cell.vectors if vector.vector_id in cell.steering.acting]
    return [_along(cell, RANDOM, _turned(acting, draw)) for draw in range(n)]


def _along(cell: Cell, control: str, stand_ins: Mapping[str, Vector]) -> Cell:
    """The cell with other vectors in the place of its own, at the same strengths."""
    assert cell.steering is not None, "only vectors have stand-ins"
    exchanged = replace(
        cell,
        steering=cell.steering.renamed({key: vector.vector_id for key, vector in stand_ins.items()}),
        vectors=tuple(stand_ins.get(vector.vector_id, vector) for vector in cell.vectors),
        control=control,
        control_of=cell.intervention_id,
        along=None,
    )
    return exchanged if cell.dose is None else exchanged.at(cell.dose)


def turned_draw(vectors: Sequence[Vector], draw: int) -> list[Vector]:
    """Each of the vectors turned at random by itself: directions without meaning, as long as they are."""
    return [_turned([vector], draw)[vector.vector_id] for vector in vectors]


def _random(acting: Sequence[Vector], vectors: Sequence[Vector], n: int) -> list[dict[str, Vector]]:
    """The random controls that a derived vector has, or `n` turns; each maps a vector's key to its stand-in."""
    if len(acting) == 1 and (known := _known(acting[0], RANDOM, vectors)):
        return [{acting[0].vector_id: vector} for vector in known]
    return [_turned(acting, draw) for draw in range(n)]


def _shuffled(acting: Sequence[Vector], vectors: Sequence[Vector]) -> list[dict[str, Vector]]:
    """The vectors from shuffled labels, a draw each, by the key of the vector; none unless all are of the grid."""
    columns = [_known(vector, SHUFFLED, vectors) for vector in acting]
    return [{v.vector_id: s for v, s in zip(acting, row, strict=True)} for row in zip(*columns, strict=False)]


def _known(vector: Vector, control: str, vectors: Sequence[Vector]) -> list[Vector]:
    """The grid's controls of that kind for the vector; none where the vector is not of the grid."""
    if all(vector.vector_id != other.vector_id for other in vectors):
        return []
    place = (vector.method, vector.layer)
    return [other for other in vectors if other.control == control and (other.method, other.layer) == place]


def _turned(acting: Sequence[Vector], draw: int) -> dict[str, Vector]:
    """The vectors turned together at random, each by the key of the vector that it stands in for."""
    keys = [vector.vector_id for vector in acting]
    seed = seed_from("turned", keys, draw)
    directions = turned(np.array([vector.direction for vector in acting], np.float64), seed)  # (k, D)
    made = {"made": "turned", "of": keys, "version": CHANCE_VERSION}
    return {
        vector.vector_id: replace(
            vector,
            vector_id=content_key("vector", made, seed, vector.vector_id),
            control=RANDOM,
            seed=seed,
            direction=direction.astype(np.float32),
            lineage=made,
        )
        for vector, direction in zip(acting, directions, strict=True)
    }
