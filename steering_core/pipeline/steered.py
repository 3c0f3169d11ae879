"""A steering expression over vectors of the store, as a cell that can be measured without a run."""

from collections.abc import Sequence
from dataclasses import replace
from math import isclose

import numpy as np

from steering_core.candidates.cell import Cell
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.expression import Expression
from steering_core.interventions.parsing import stored
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors.keyed import by_key
from steering_core.vectors.lookup import Find
from steering_core.vectors.vector import Vector

_ALIKE = 1e-4  # strengths that differ by no more than rounding


def steered_cell(model: Model, store: Store, expression: Expression, find: Find) -> Cell:
    """The expression as a cell, its vectors found by `find`.

    Where a recommendation does the same, the cell is that recommendation's, so that what was measured for it is not
    measured again. Raises as `vectors.resolve.by_key` does.
    """
    keyed, vectors = by_key(expression, find, model.identity.n_layers)
    cell = Cell(model.identity.model_id, _concept_of(vectors), keyed, vectors)
    changes = cell.intervention.changes
    away = bool(changes) and all(change.amount < 0 for change in changes)
    return _as_recommended(store, replace(cell, sign=-1 if away else 1))


def _concept_of(vectors: Sequence[Vector]) -> str | None:
    """The concept of all the vectors; None where they are of several, or of none."""
    concepts = {vector.concept_id for vector in vectors}
    return concepts.pop() if len(concepts) == 1 else None


def _as_recommended(store: Store, cell: Cell) -> Cell:
    """The cell of a recommendation that does the same, where there is one; else the cell itself."""
    ids = [vector.vector_id for vector in cell.vectors]
    rows = store.rows(
        "SELECT DISTINCT intervention, concept_id, dose FROM raw.recommendations "
        "WHERE model_id = ? AND list_sort(vector_ids) = ? ORDER BY intervention",
        [cell.model_id, sorted(ids)],
    )
    for row in rows:
        steering = stored(row["intervention"])
        if steering is None or not set(steering.names) <= set(ids):  # another program edited it
            continue
        sign = -1 if row["dose"] is not None and row["dose"] < 0 else 1
        found = replace(cell, steering=steering, concept_id=row["concept_id"], sign=sign)
        if _same(found.intervention, cell.intervention):
            return found
    return cell


def _same(one: Intervention, other: Intervention) -> bool:
    """Whether both do the same to the stream, in whatever order their layers are named, strengths to their rounding.

    Changes with a condition are never the same.
    """
    if len(one.changes) != len(other.changes):
        return False
    return all(
        (a.layer, a.operation, a.where, a.condition, b.condition) == (b.layer, b.operation, b.where, None, None)
        and isclose(a.amount, b.amount, rel_tol=_ALIKE)
        and np.array_equal(a.direction, b.direction)
        for a, b in zip(_by_layer(one), _by_layer(other), strict=True)
    )


def _by_layer(intervention: Intervention) -> list[Change]:
    return sorted(intervention.changes, key=lambda change: (change.layer, change.operation, change.amount))
