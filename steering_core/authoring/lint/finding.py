"""`Finding`: what a check found, in which rows, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "accepted"]
SHOWN_ROWS = 6


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
