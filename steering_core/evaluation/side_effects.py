"""Side effects: what a chosen candidate does to the items of other concepts, beside what its chance controls do there.

A vector that moves one concept moves others. Every intervention that stood trial is measured on the held-out test items
of each concept; a row of the matrix is an intervention, a column the concept whose items were asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steering_core.candidates.cell import CHANCE_CONTROLS, NONE, Cell, Trial
from steering_core.concepts import Concept, Item
from steering_core.foundation.counting import Done
from steering_core.foundation.keys import content_key
from steering_core.foundation.progress import Progress, silent
from steering_core.foundation.validation import counted
from steering_core.models import Model
from steering_core.scores.measure import measure_items
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import cell_values
from steering_core.statistics.intervals import LEVEL, holm, mean_interval, not_zero_p, unlike_p
from steering_core.store import Store

SIDE_EFFECTS_VERSION = 1
ITEMS_OF_A_ROW = 96  # about, over all concepts, so that a row costs as much however many they are
LEAST_ITEMS, MOST_ITEMS = 6, 12  # of each concept
_MOST_NAMED = 3  # side effects in a verdict's sentence


@dataclass(frozen=True)
class SideEffect:
    """What one intervention does to one concept's items: its effects by item in nats, and two p-values.

    `p_value` is two-sided, the larger of two: that the effect is 0 on such items, and that a meaningless direction does
    as much. `p_corrected` is `p_value` after Holm's correction over the concepts of the intervention's row that it was
    not found for; None on the concept that it was found for.
    """

    cell: Cell
    measured: Concept
    effects: tuple[float, ...]
    p_value: float = 1.0
    p_corrected: float | None = None

    @property
    def own(self) -> bool:
        """Whether the items are of the concept that the intervention was found for."""
        return self.measured.concept_id == self.cell.concept_id

    @property
    def effect(self) -> float | None:
        """The mean of the finite effects; None without one."""
        finite = [effect for effect in self.effects if math.isfinite(effect)]
        return float(np.mean(finite)) if finite else None


@dataclass
class Matrix:
    """The side effects of one trial: its candidate's row and those of its chance controls."""

    rows: list[SideEffect] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)  # of the stored rows

    def of(self, cell: Cell) -> list[SideEffect]:
        """The row of an intervention."""
        return [row for row in self.rows if row.cell.intervention_id == cell.intervention_id]

    def others(self, cell: Cell) -> list[SideEffect]:
        """What an intervention does to the concepts that it was not found for, the greatest effect first."""
        found = [row for row in self.of(cell) if not row.own and row.effect is not None]
        return sorted(found, key=lambda row: -abs(row.effect or 0.0))

    def selectivity(self, cell: Cell) -> float | None:
        """The effect on the intervention's own concept over the greatest on another concept, without signs."""
        own = next((row.effect for row in self.of(cell) if row.own), None)
        others = self.others(cell)
        if own is None or not others or not others[0].effect:
            return None
        return abs(own) / abs(others[0].effect)

    def sure(self, cell: Cell) -> list[SideEffect]:
        """The effects on other concepts whose corrected p-value allows no doubt, the greatest first."""
        return [row for row in self.others(cell) if row.p_corrected is not None and row.p_corrected <= 1 - LEVEL]

    def said(self, cell: Cell) -> str:
        """The surest side effects as words that follow a verdict's reason, or that none is sure; empty without any."""
        others, sure = self.others(cell), self.sure(cell)
        moved = [f"{row.measured.name} by {row.effect:+.2f}" for row in sure[:_MOST_NAMED] or others[:1]]
        more = f", and {len(sure) - _MOST_NAMED} more concepts" if len(sure) > _MOST_NAMED else ""
        if sure:
            return f"; it also moves {', '.join(moved)} nats{more}"
        n = counted(len(others), "other concept")
        return f"; of {n} it surely moves none (most of all {moved[0]} nats)" if moved else ""


def items_of_each(concepts: int) -> int:
    """On how many items of each concept side effects are measured, for a row of that many concepts."""
    return min(MOST_ITEMS, max(LEAST_ITEMS, ITEMS_OF_A_ROW // max(concepts, 1)))


def side_effects(
    model: Model,
    store: Store,
    trial: Trial,
    held_out: Mapping[str, tuple[Concept, Sequence[Item]]],
    progress: Progress = silent,
) -> tuple[Matrix, Done]:
    """The side effects of a trial's candidate and of its chance controls, stored, on each concept's test items.

    `held_out` are concepts with their items by concept_id, that of the trial among them.
    """
    steered = [trial.chosen, *(cell for cell in trial.cells if cell.control in CHANCE_CONTROLS)]
    base = next(cell for cell in trial.cells if cell.control == NONE)
    each = items_of_each(len(held_out))
    done, columns = Done(), []
    for at, (concept, items) in enumerate(held_out.values()):
        effects, did = _effects(model, store, concept, items[:each], base, steered)
        done += did
        columns.append(_with_p_values(concept, steered, effects))
        progress(at + 1, len(held_out))
    matrix = Matrix([row for of_cell in zip(*columns, strict=True) for row in _corrected(of_cell)])
    asked = content_key("items", {i: [one.item_id for one in some[:each]] for i, (_, some) in held_out.items()})
    made_of = (asked, sorted(cell.intervention_id for cell in steered))
    rows = [_row(row, trial.chosen, made_of) for row in matrix.rows]
    store.append("side_effects", rows)
    matrix.ids = [row["side_effect_id"] for row in rows]
    return matrix, done


def _effects(
    model: Model, store: Store, concept: Concept, items: Sequence[Item], base: Cell, steered: Sequence[Cell]
) -> tuple[list[tuple[float, ...]], Done]:
    """Each intervention's effects on a concept's items, in the items' order."""
    cells = [replace(cell, concept_id=concept.concept_id) for cell in (base, *steered)]
    did = measure_items(Setup(model, concept), store, cells, items, "test", ["propensity"])
    before, *after = (values["propensity"] for values in cell_values(store, cells, did.ids))
    return [tuple(values[i.item_id] - before[i.item_id] for i in items) for values in after], did


def _with_p_values(concept: Concept, steered: Sequence[Cell], effects: Sequence[tuple[float, ...]]) -> list[SideEffect]:
    """A column of the matrix: every intervention compared with the chance controls other than itself."""
    means = [float(np.mean(of_cell)) for of_cell in effects]
    found = []
    for i, (cell, of_cell) in enumerate(zip(steered, effects, strict=True)):
        nulls = [mean for j, mean in enumerate(means) if j != i and steered[j].control]
        p_value = max(unlike_p(means[i], nulls), not_zero_p(of_cell))
        found.append(SideEffect(cell, concept, of_cell, p_value))
    return found


def _corrected(row: Sequence[SideEffect]) -> list[SideEffect]:
    """One intervention's row, its p-values corrected over the concepts that it was not found for."""
    p_values = iter(holm([one.p_value for one in row if not one.own]))
    return [one if one.own else replace(one, p_corrected=next(p_values)) for one in row]


def _row(one: SideEffect, chosen: Cell, made_of: tuple[str, list[str]]) -> dict[str, Any]:
    finite = np.array([effect for effect in one.effects if math.isfinite(effect)])
    ends = mean_interval(finite) if len(finite) else ()
    mean, low, high = (float(end) if math.isfinite(end) else None for end in ends) if ends else (None, None, None)
    key = (*made_of, chosen.intervention_id, one.cell.control, one.cell.intervention_id, one.measured.concept_id)
    return {
        "side_effect_id": content_key("side effect", SIDE_EFFECTS_VERSION, chosen.model_id, *key),
        **one.cell.columns(),
        "candidate_id": chosen.intervention_id,
        "measured_concept_id": one.measured.concept_id,
        "effect": mean,
        "effect_low": low,
        "effect_high": high,
        "p_value": one.p_value,
        "p_corrected": one.p_corrected,
        "n": len(finite),
        "n_missing": len(one.effects) - len(finite),
    }
