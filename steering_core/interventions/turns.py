"""Turns: a conversation's phases (`response`, `thinking`, `tool`, `system`, `user`) put into the places of changes."""

import dataclasses
from collections.abc import Callable, Sequence

from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.where import TURNS, Labels


def labelled(
    intervention: Intervention, tokens: Sequence[int], labels_of: Callable[[Sequence[int]], Labels]
) -> Intervention:
    """The intervention with the labels of `tokens` wherever a change acts in one of a conversation's turns."""
    if not knows_turns(intervention):
        return intervention
    labels = labels_of(tokens)
    return Intervention(tuple(_labelled(change, labels) for change in intervention.changes))


def knows_turns(intervention: Intervention) -> bool:
    """Whether any change acts in one of the phases of a conversation's turns (`where.TURNS`)."""
    return any(change.where.phase in TURNS for change in intervention.changes)


def _labelled(change: Change, labels: Labels) -> Change:
    if change.where.phase not in TURNS:
        return change
    return dataclasses.replace(change, where=dataclasses.replace(change.where, labels=labels))
