"""Spans: a piece of a prompt's text, as the positions of its tokens."""

import dataclasses
from collections.abc import Callable, Sequence

from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Change, Intervention


def located(intervention: Intervention, tokens: Sequence[int], text_of: Callable[[Sequence[int]], str]) -> Intervention:
    """The intervention with each span replaced by its tokens' positions. Raises InterventionError."""
    if all(change.where.span is None for change in intervention.changes):
        return intervention
    text = text_of(tokens)
    extents = _extents([text_of(tokens[: i + 1]) for i in range(len(tokens))], text)
    return Intervention(tuple(_located(change, text, extents) for change in intervention.changes))


def _extents(begun: Sequence[str], text: str) -> list[tuple[int, int]]:
    """From where to where in `text` each token reaches, by the text that the tokens up to it say.

    A character of several tokens, as 🦙 is, belongs to each of these: the text up to one in its middle ends otherwise.
    """
    extents, start = [], 0
    for so_far in begun:
        whole = start
        while whole < min(len(so_far), len(text)) and so_far[whole] == text[whole]:
            whole += 1
        extents.append((start, whole + (whole < len(so_far))))
        start = whole
    return extents


def _located(change: Change, text: str, extents: Sequence[tuple[int, int]]) -> Change:
    span = change.where.span
    if span is None:
        return change
    positions: set[int] = set()
    start = text.find(span) if span else -1
    while start >= 0:
        within = [i for i, (a, b) in enumerate(extents) if a < start + len(span) and b > start]
        positions.update(within)
        start = text.find(span, start + 1)
    if not positions:
        raise InterventionError(f"the span {span!r} is not in the prompt {text[:200]!r}: quote it as the prompt has it")
    where = dataclasses.replace(change.where, span=None, positions=tuple(sorted(positions)))
    return dataclasses.replace(change, where=where)
