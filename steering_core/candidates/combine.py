"""Combinations: candidates of several vectors, built of the best single ones."""

from collections.abc import Sequence

from steering_core.candidates.cell import Cell
from steering_core.interventions.expression import Amount
from steering_core.vectors.vector import Vector

LAYERS = 3  # of one method in a combination, at most


def combined(best: Sequence[Cell], doses: Sequence[float]) -> list[Cell]:
    """Two kinds of combination, each at every dose: one method at several layers, and two methods at one layer.

    `best` holds cells of one vector each, the best cell first. `doses` are positive; a combination has the best cell's
    sign. The first combination takes the best cell's method at up
    to `LAYERS` of the best layers. The second takes the two best methods at the best cell's layer. Every vector of a
    combination has the same share of the dose. Over layers, the doses of the shares add up to the combination's dose,
    because what is added at one layer is still in the stream at the next. At one layer, the length of the sum is the
    dose. So a combination is as strong as a single vector of its dose.
    """
    vectors = list({cell.vector.vector_id: cell.vector for cell in best if cell.vector}.values())
    if not vectors:
        return []
    first = vectors[0]
    layers = [vector for vector in vectors if vector.method == first.method][:LAYERS]
    methods = [first, *(v for v in vectors if v.layer == first.layer and v.method != first.method)][:2]
    return [
        cell.at(cell.sign * dose)
        for together in (layers, methods)
        if len(together) > 1
        for cell in [_evenly(best[0], together)]
        for dose in doses
    ]


def _evenly(like: Cell, vectors: Sequence[Vector]) -> Cell:
    """The vectors, each at a dose of 1, added in the phase, for the concept and with the sign of the cell `like`."""
    phase = like.intervention.changes[0].where.phase
    amounts = [Amount.of_dose(float(like.sign))] * len(vectors)
    return Cell.adding_amounts(like.model_id, like.concept_id, phase, vectors, amounts)
