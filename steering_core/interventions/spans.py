"""Spans: a piece of a prompt's text, as the positions of its tokens."""

import dataclasses
from collections.abc import Callable, Sequence

from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Change, Intervention


def located(intervention: Intervention, tokens: Sequence[int], text_of: Callable[[Sequence[int]], str]) -> Intervention:
    """The intervention with each span replaced by its tokens' positions. Raises InterventionError."""
    if all(change.where.span is None for change in intervention.changes):
        return intervention
    ends = [len(text_of(tokens[: i + 1])) for i in range(len(tokens))]  # where each token's text ends
    text = text_of(tokens)
    return Intervention(tuple(_located(change, text, ends) for change in intervention.changes))


def _located(change: Change, text: str, ends: Sequence[int]) -> Change:
    span = change.where.span
    if span is None:
        return change
    positions: set[int] = set()
    starts = [0, *ends[:-1]]
    start = text.find(span) if span else -1
    while start >= 0:
        within = [i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if a < start + len(span) and b > start]
        positions.update(within)
        start = text.find(span, start + 1)
    if not positions:
        raise InterventionError(f"the span {span!r} is not in the prompt {text[:200]!r}: quote it as the prompt has it")
    where = dataclasses.replace(change.where, span=None, positions=tuple(sorted(positions)))
    return dataclasses.replace(change, where=where)
