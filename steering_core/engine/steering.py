"""`Steering`: the interventions of a batch's rows, as edits for the taps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.interventions.change import Change, Condition, Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.operations import FUNCTIONS, component
from steering_core.models.taps import Edit, Edits, chained, looking

Offsets = int | Sequence[int] | np.ndarray
"""The position at which a pass begins: one for all rows, or one each."""

RowTurns = Sequence[str | None]
"""The phase of each row's new position, one of `where.TURNS`; None: the phase in which the row's prompt ends."""


class Steering:
    """What is done to a batch: an intervention for each of its B rows, and the length of each row's prompt.

    `edits(offset, length)` gives what the taps do in a forward pass over the positions offset .. offset + length - 1
    (one offset for all rows, or one each). A stream that comes in with one row leaves its first edited block with B.
    Edits that will never change again are made once: a decoding step then costs no Python per row.
    """

    def __init__(self, interventions: Sequence[Intervention], prompt_lengths: Sequence[int] | np.ndarray) -> None:
        self._interventions = list(interventions)
        self._lengths = np.array(prompt_lengths)
        slots: dict[tuple[int, int, str, bool], _Slot] = {}
        for row, intervention in enumerate(interventions):
            for layer, groups in _grouped(intervention).items():
                for place, group in enumerate(groups):
                    kind, conditional = "sum" if _plain_add(group[0]) else group[0].operation, bool(group[0].condition)
                    slot = slots.setdefault((layer, place, kind, conditional), _Slot(layer, kind, self._lengths))
                    slot.changes[row] = group
        self._slots = [slots[key] for key in sorted(slots)]
        self._settled_edits: Edits | None = None
        self._components: dict[tuple[int, int], mx.array] = {}  # of conditions by slot and layer, in the running pass

    def keep(self, rows: Sequence[int]) -> "Steering":
        """The steering of those rows alone."""
        return Steering([self._interventions[r] for r in rows], [int(self._lengths[r]) for r in rows])

    def __add__(self, other: "Steering") -> "Steering":
        """The steering of these rows, then of those of `other`."""
        return Steering(self._interventions + other._interventions, np.concatenate([self._lengths, other._lengths]))

    @cached_property
    def layers(self) -> list[int]:
        """The layers at which anything is done or read."""
        read = {layer for slot in self._slots for layer in slot.conditions_at}
        return sorted({slot.layer for slot in self._slots} | read)

    @cached_property
    def moves(self) -> bool:
        """Whether the tokens that the model draws decide where anything acts."""
        return any(slot.moves for slot in self._slots)

    def edits(self, offset: Offsets, length: int, turns: RowTurns | None = None) -> Edits:
        """Each layer's edit for `length` positions from `offset`; layers at which nothing acts there are left out."""
        if not self._slots:
            return {}
        offsets = np.broadcast_to(np.asarray(offset), self._lengths.shape)
        step = int((offsets - self._lengths).min()) if length == 1 else -math.inf
        settled = not self.moves and all(slot.settled <= step for slot in self._slots)
        if settled and self._settled_edits is not None:
            return self._settled_edits
        edits: Edits = {}
        for number, slot in enumerate(self._slots):
            edit = slot.edit_at(offsets, length, step, turns)
            if edit is not None:
                self._attach(edits, number, slot, edit)
        if settled:
            self._settled_edits = edits
        return edits

    def _attach(self, edits: Edits, number: int, slot: "_Slot", edit: Edit) -> None:
        """Put a slot's edit after its layer's other ones. Its conditions are read before any change of their layers."""
        for layer, conditions in slot.conditions_at.items():
            look = self._look(number, layer, conditions)
            edits[layer] = chained(look, edits[layer]) if layer in edits else look
        if slot.conditions_at:
            edit = self._conditional(number, slot, edit)
        edits[slot.layer] = chained(edits[slot.layer], edit) if slot.layer in edits else edit

    def _look(self, number: int, layer: int, conditions: Mapping[int, Condition]) -> Edit:
        """An edit that changes nothing: it keeps each row's component along its condition's direction, (B, T, 1)."""
        width = next(iter(conditions.values())).direction.shape[0]
        units = np.zeros((len(self._interventions), 1, width), np.float32)
        for row, condition in conditions.items():
            units[row, 0] = condition.unit
        unit = mx.array(units)

        def look(h: mx.array) -> None:
            """Keep the component of the stream along each row's direction: (B, T, 1)."""
            self._components[number, layer] = component(h, unit)

        return looking(look)

    def _conditional(self, number: int, slot: "_Slot", edit: Edit) -> Edit:
        """`edit` at tokens where the row's condition holds; elsewhere the stream is handed on unchanged.

        A row's condition is read at one layer. It holds where the component there, as `_look` kept it, lies beyond the
        threshold: above it where the sign is 1, below it where it is -1. A row without changes in the slot has sign 0.
        """
        n = len(self._interventions)
        thresholds, signs = np.zeros((2, n, 1, 1), np.float32)
        masks: dict[int, mx.array] = {}  # layer -> whether a row's condition is read there, (B, 1, 1)
        for layer, conditions in slot.conditions_at.items():
            mask = np.zeros((n, 1, 1), bool)
            for row, condition in conditions.items():
                mask[row] = True
                thresholds[row], signs[row] = condition.threshold, 1 if condition.above else -1
            masks[layer] = mx.array(mask)
        threshold, sign = mx.array(thresholds), mx.array(signs)

        def conditional(h: mx.array) -> mx.array:
            """The edited stream at tokens where the row's condition holds."""
            holds = mx.array(False)
            for layer, mask in masks.items():
                holds = holds | (mask & (sign * (self._components[number, layer] - threshold) > 0))
            return mx.where(holds, edit(h), h)

        return conditional


@dataclass
class _Slot:
    """The changes that one edit makes: of one kind, at one layer, at most one group of changes for each row.

    A row's changes at a layer act one after another, in groups. A slot has the k-th group of every row whose k-th group
    is of its kind. The kind is `sum` for unconditional adds, which together add one delta; any other group is a single
    change, of the operation that names the kind. Either all changes of a slot have conditions, or none has.
    """

    layer: int
    kind: str
    lengths: np.ndarray  # of all rows' prompts, (B,)
    changes: dict[int, list[Change]] = field(default_factory=dict)  # row -> its group
    _made: dict[tuple[bytes, int], Edit] = field(default_factory=dict)

    @cached_property
    def settled(self) -> float:
        """The step after the prompt from which the edit stays the same in all rows."""
        lengths = {row: int(self.lengths[row]) for row in self.changes}
        return max(c.where.settled(lengths[row]) - lengths[row] for row, group in self.changes.items() for c in group)

    @cached_property
    def conditions_at(self) -> dict[int, dict[int, Condition]]:
        """The rows' conditions, by the layer at which they are read; empty where nothing depends on conditions."""
        layers: dict[int, dict[int, Condition]] = {}
        for row, group in self.changes.items():
            if condition := group[0].condition:
                layers.setdefault(condition.layer, {})[row] = condition
        return layers

    @cached_property
    def moves(self) -> bool:
        """Whether the tokens that the model draws decide where its changes act."""
        return any(change.where.moves for group in self.changes.values() for change in group)

    def edit_at(self, offsets: np.ndarray, length: int, step: float, turns: RowTurns | None) -> Edit | None:
        """The edit for `length` positions from each row's offset; None where nothing acts."""
        weights = self._weights(offsets, length, turns)  # (B, T or 1, K)
        if not weights.any():
            return None
        if step < self.settled:  # the next pass has other weights, so this edit is not worth keeping
            return self._edit(weights)
        key = (weights.tobytes(), weights.shape[1])
        if key not in self._made:
            self._made[key] = self._edit(weights)
        return self._made[key]

    def _weights(self, offsets: np.ndarray, length: int, turns: RowTurns | None) -> np.ndarray:
        """Strength of each change at each position, (B, T, K); T is 1 where it is the same at every position."""
        deepest = max(map(len, self.changes.values()))
        weights = np.zeros((len(self.lengths), length, deepest), np.float32)
        known: dict[tuple[object, int, int, str | None], np.ndarray] = {}
        for row, group in self.changes.items():
            offset, prompt_length, turn = int(offsets[row]), int(self.lengths[row]), turns[row] if turns else None
            for k, change in enumerate(group):
                key = (change.where, offset, prompt_length, turn)
                if key not in known:
                    known[key] = change.where.gate(np.arange(offset, offset + length), prompt_length, turn)
                weights[row, :, k] = known[key]
        return weights[:, :1] if (weights == weights[:, :1]).all() else weights

    def _edit(self, weights: np.ndarray) -> Edit:
        if self.kind == "sum":
            return self._sum(weights)
        directions = self._directions(1)  # (B, 1, D)
        amounts = np.zeros((len(self.lengths), 1, 1), np.float32)
        for row, (change,) in self.changes.items():
            amounts[row] = change.amount
        direction, amount, gate = mx.array(directions), mx.array(amounts), mx.array(weights)
        operation = FUNCTIONS[self.kind]
        return lambda h: operation(h, direction, amount, gate)

    def _sum(self, weights: np.ndarray) -> Edit:
        """h + delta: the sum over a row's changes of weight * amount * direction, which is known before the pass."""
        directions = self._directions(weights.shape[2])
        for row, group in self.changes.items():
            for k, change in enumerate(group):
                directions[row, k] *= change.amount
        delta = mx.array(weights) @ mx.array(directions)  # (B, T or 1, K) @ (B, K, D) -> (B, T or 1, D)
        deltas: dict[mx.Dtype, mx.array] = {}

        def add(h: mx.array) -> mx.array:
            """h + delta, with the delta cast once to each precision that the stream has."""
            if h.dtype not in deltas:
                deltas[h.dtype] = delta.astype(h.dtype)
            return h + deltas[h.dtype]

        return add

    def _directions(self, depth: int) -> np.ndarray:
        """The changes' directions, (B, K, D) float32, 0 where a row has fewer."""
        width = next(iter(self.changes.values()))[0].direction.shape[0]
        directions = np.zeros((len(self.lengths), depth, width), np.float32)
        for row, group in self.changes.items():
            for k, change in enumerate(group):
                directions[row, k] = change.direction
        return directions


def _plain_add(change: Change) -> bool:
    return change.operation == ADD.name and change.condition is None


def _grouped(intervention: Intervention) -> dict[int, list[list[Change]]]:
    """Each layer's changes in order; adds that follow one another without a condition are one group."""
    layers: dict[int, list[list[Change]]] = {}
    for change in intervention.changes:
        if _plain_add(change) and change.amount == 0:
            continue
        groups = layers.setdefault(change.layer, [])
        if groups and _plain_add(change) and _plain_add(groups[-1][0]):
            groups[-1].append(change)
        else:
            groups.append([change])
    return layers
