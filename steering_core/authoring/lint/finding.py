"""`Finding`: what a check found, in which rows, and what to do about it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steering_core.concepts.concept import Concept
from steering_core.foundation.validation import shortened

Level = Literal["error", "warning", "accepted"]
SHOWN_ROWS = 6
BEGINNING = 28  # letters of a row's text that tell a person which it is
_ROW = re.compile(r"\b(pair|positive|negative|item|prompt) (\d+)\b")


@dataclass(frozen=True)
class Finding:
    """One fault of a concept. An error ruins vectors or verdicts, a warning weakens them.

    An accepted one lies in the nature of the concept: its card says why, under `accepted`.
    """

    check: str
    level: Level
    message: str
    remedy: str
    rows: tuple[str, ...] = ()


def numbered(kind: str, place: int) -> str:
    """What a finding calls a row at a place of its list, counted from 1 as people do: "pair 3"."""
    return f"{kind} {place + 1}"


def error(check: str, message: str, remedy: str, rows: Sequence[str] = ()) -> Finding:
    """A finding that ruins vectors or verdicts."""
    return Finding(check, "error", message, remedy, tuple(rows))


def warning(check: str, message: str, remedy: str, rows: Sequence[str] = ()) -> Finding:
    """A finding that weakens them."""
    return Finding(check, "warning", message, remedy, tuple(rows))


def shown_rows(rows: Sequence[str]) -> str:
    """The first rows, and how many more there are."""
    more = f", … {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return ", ".join(rows[:SHOWN_ROWS]) + more


def with_beginnings(concept: Concept, rows: Sequence[str]) -> tuple[str, ...]:
    """The rows' names, each with the beginning of its text, by which it is found in the file: `pair 53 "How do"`."""
    texts = {numbered("pair", i): pair.prompt or pair.positive for i, pair in enumerate(concept.pairs)}
    texts |= {numbered("item", i): item.prompt for i, item in enumerate(concept.items)}
    texts |= {numbered("prompt", i): text for i, text in enumerate(concept.prompts)}
    texts |= {numbered(text.side, text.ordinal): text.text for text in concept.texts if concept.unpaired}

    def begun(found: re.Match[str]) -> str:
        """A row's name with its beginning; the name alone where the concept has no such row."""
        text = " ".join(str(texts.get(found[0], "")).split())
        return f'{found[0]} "{shortened(text, BEGINNING)}"' if text else found[0]

    return tuple(_ROW.sub(begun, row) for row in rows)
