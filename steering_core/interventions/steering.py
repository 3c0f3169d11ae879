"""`Steering`: the interventions of a batch's rows, as edits for the taps."""

from collections.abc import Sequence

import numpy as np

from steering_core.backend import mx
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.operations import OPERATIONS
from steering_core.taps import Edit

Slot = tuple[int, int, str]  # layer, place in the row's order, operation


class Steering:
    """One intervention a row: `rows` (B) interventions and the prompt length of each row.

    `edits(offset, length)` gives what the taps do in a forward pass over the positions offset .. offset + length - 1.
    A stream that comes in with one row leaves its first edited block with B: rows share the work before it.
    """

    def __init__(self, rows: Sequence[Intervention], prompt_lengths: Sequence[int]) -> None:
        self._rows = list(rows)
        self._prompt_lengths = list(prompt_lengths)
        self._slots: dict[Slot, dict[int, Change]] = {}
        for row, intervention in enumerate(rows):
            for place, change in enumerate(_by_layer(intervention)):
                self._slots.setdefault((change.layer, place, change.operation), {})[row] = change
        self._prepared: dict[tuple[Slot, bytes, int], Edit] = {}

    def keep(self, rows: Sequence[int]) -> "Steering":
        """The steering of those rows alone."""
        return Steering([self._rows[r] for r in rows], [self._prompt_lengths[r] for r in rows])

    def edits(self, offset: int, length: int) -> dict[int, Edit]:
        """Each layer's edit for `length` positions from `offset`; layers at which nothing acts there are left out."""
        positions = np.arange(offset, offset + length)
        edits: dict[int, Edit] = {}
        for slot in sorted(self._slots):
            gate = self._gate(slot, positions)
            if gate.any():
                edit = self._prepare(slot, gate)
                edits[slot[0]] = _chained(edits[slot[0]], edit) if slot[0] in edits else edit
        return edits

    def _gate(self, slot: Slot, positions: np.ndarray) -> np.ndarray:
        """Where the slot's changes act, (B, T), or (B, 1) where that is the same at every position."""
        gate = np.zeros((len(self._rows), len(positions)), np.float32)
        for row, change in self._slots[slot].items():
            gate[row] = change.where.gate(positions, self._prompt_lengths[row])
        return gate[:, :1] if (gate == gate[:, :1]).all() else gate

    def _prepare(self, slot: Slot, gate: np.ndarray) -> Edit:
        key = (slot, gate.tobytes(), gate.shape[1])
        if key not in self._prepared:
            self._prepared[key] = self._edit(slot, gate)
        return self._prepared[key]

    def _edit(self, slot: Slot, gate: np.ndarray) -> Edit:
        changes = self._slots[slot]
        width = next(iter(changes.values())).direction.shape[0]
        directions = np.zeros((len(self._rows), 1, width), np.float32)
        amounts = np.zeros((len(self._rows), 1, 1), np.float32)
        for row, change in changes.items():
            directions[row, 0], amounts[row] = change.direction, change.amount
        direction, amount, gates = mx.array(directions), mx.array(amounts), mx.array(gate[:, :, None])
        if slot[2] == "add":  # the delta depends on nothing that runs: make it once
            delta = gates * amount * direction  # (B, T or 1, D)
            mx.eval(delta)
            return lambda h: h + delta.astype(h.dtype)
        operation = OPERATIONS[slot[2]]
        return lambda h: operation(h, direction, amount, gates)


def _by_layer(intervention: Intervention) -> list[Change]:
    """The changes in order, neighbours that add at the same places of one layer merged into one."""
    merged: list[Change] = []
    for change in intervention.changes:
        last = merged[-1] if merged else None
        if last and (last.layer, last.operation, last.where) == (change.layer, "add", change.where):
            total = last.amount * last.direction + change.amount * change.direction
            merged[-1] = Change(change.layer, total, 1.0, "add", change.where)
        elif change.operation != "add" or change.amount != 0:
            merged.append(change)
    return merged


def _chained(first: Edit, second: Edit) -> Edit:
    return lambda h: second(first(h))
