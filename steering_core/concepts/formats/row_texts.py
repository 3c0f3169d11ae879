"""The texts of one row: two sides and the prompt, from texts, lists of answers and conversations."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.concepts.concept import MAX_TEXT
from steering_core.concepts.formats.messages import Turn, conversation_text, turns_of
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.validation import written

RowTexts = dict[str, str]
"""`positive`, `negative` (or `text` alone) and, where there is one, `prompt`; later also `split`."""
MAX_ANSWERS = 100  # in one list


@dataclass(frozen=True)
class _Side:
    """The answers in a value, of which a list may hold several, and the turns `before` them in a conversation."""

    before: tuple[Turn, ...]
    answers: tuple[str, ...]


def texts_of_row(
    row: Record, positive: str, negative: str, prompt: str | None, around: Sequence[str] = ()
) -> tuple[list[RowTexts], list[str]]:
    """The texts in a row under these columns, and its faults; with several answers on a side, each pair of them."""
    faults = [fault for column in (positive, negative) for fault in _side_faults(row, column)]
    faults += _prompt_faults(row, prompt) if prompt else []
    if faults:
        return [], faults
    sides = [_side(row.values[column]) for column in (positive, negative)]
    if sides[0].before != sides[1].before:
        return [], ["the conversations differ before their last turn: both sides must answer the same one"]
    asked, fault = _asked(row, prompt, sides[0].before)
    if fault or set(sides[0].answers) & set(sides[1].answers):
        return [], [fault or "both sides are the same text"]
    before = {"prompt": _joined(row, around, prompt, asked)} if asked else {}
    answers = itertools.product(*(dict.fromkeys(side.answers) for side in sides))
    return [{"positive": one, "negative": other} | before for one, other in answers], []


def lone_texts(
    row: Record, column: str, prompt: str | None, around: Sequence[str] = ()
) -> tuple[list[RowTexts], list[str]]:
    """The texts under one column of a row, as `text` and, where there is one, `prompt`, and the row's faults."""
    faults = _side_faults(row, column) + (_prompt_faults(row, prompt) if prompt else [])
    if faults:
        return [], faults
    side = _side(row.values[column])
    asked, fault = _asked(row, prompt, side.before)
    if fault:
        return [], [fault]
    before = {"prompt": _joined(row, around, prompt, asked)} if asked else {}
    return [{"text": answer} | before for answer in dict.fromkeys(side.answers)], []


def _side(value: Any) -> _Side:
    if turns := turns_of(value):
        return _Side(turns[:-1], (turns[-1].text,))
    return _Side((), tuple(value) if isinstance(value, list) else (value,))


def _side_faults(row: Record, column: str) -> list[str]:
    if column not in row.values:
        return [f"there is no {column!r}"]
    value = row.values[column]
    if (turns := turns_of(value)) and not turns[-1].answers:
        role = written(turns[-1].role)
        return [f"{column!r} ends with a turn of {role}: its last turn must be the assistant's answer"]
    if not turns and isinstance(value, list) and not 0 < len(value) <= MAX_ANSWERS:
        return [f"{column!r} must hold 1 to {MAX_ANSWERS} answers, not {len(value)}"]
    faults = [fault for text in _side(value).answers if (fault := text_fault(text))]
    return [f"{column!r} {fault}" for fault in faults[:1]]


def _prompt_faults(row: Record, column: str) -> list[str]:
    if column not in row.values:
        return [f"there is no {column!r}"]
    value = row.values[column]
    turns = turns_of(value)
    fault = text_fault(conversation_text(turns) if turns else value)
    return [f"{column!r} {fault}"] if fault else []


def _asked(row: Record, column: str | None, before: tuple[Turn, ...]) -> tuple[str, str | None]:
    """The prompt that both sides answer, empty where there is none, and what is wrong with it.

    It is made of the prompt's column and the turns `before` the sides' answers. Where the sides are conversations, a
    prompt that is a plain text has to be one of their turns.
    """
    value = row.values[column] if column else None
    if turns := turns_of(value):
        begins_both = before[: len(turns)] == turns  # the sides' conversations repeat the prompt's turns
        return conversation_text(before if begins_both else (*turns, *before)), None
    if not before:
        return value or "", None
    if value is not None and not any(turn.text.strip() == value.strip() for turn in before):
        return "", f"{column!r} is no turn of the conversation that the sides continue: {written(value)}"
    text = conversation_text(before)
    return text, f"the conversation before the answer {fault}" if (fault := text_fault(text)) else None


def _joined(row: Record, around: Sequence[str], prompt: str | None, asked: str) -> str:
    """The prompt with the texts of the columns around it, each unless it is empty or the prompt holds it already."""
    parts = [asked if name == prompt else row.values.get(name) or "" for name in around]
    if prompt not in around:
        return asked
    kept = [
        part for name, part in zip(around, parts, strict=True) if name == prompt or (part.strip() and part not in asked)
    ]
    return "\n\n".join(part.strip() for part in kept) if len(kept) > 1 else asked


def text_fault(value: Any) -> str | None:
    """What is wrong with a value that should be a text; None where nothing is."""
    if not isinstance(value, str):
        quote = ": put it in quotes" if isinstance(value, int | float) else ""
        yes = ", for YAML takes an unquoted yes, no, on or off for true or false" if isinstance(value, bool) else ""
        return f"must be a text, not {written(value)}{quote}{yes}"
    if not value.strip():
        return "is empty"
    if len(value) > MAX_TEXT:
        return f"has {len(value):,} letters, more than {MAX_TEXT:,}: longer than any context"
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        return f"holds half of a surrogate pair ({value!a:.60}): the file was cut inside a character"
    return None
