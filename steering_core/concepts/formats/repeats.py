"""Rows that a file holds twice: in every form of contrast data they count once, and how many there were is said."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from steering_core.concepts.concept import SIDES
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import counted, written

Row = TypeVar("Row")
_LISTS = {"pairs": "pair", "items": "item", "prompts": "prompt"}


def distinct(source: str, rows: Sequence[Row]) -> list[Row]:
    """The rows, each once, whatever their split. Raises ConceptError where one stands in two splits."""
    first: dict[Hashable, Row] = {}
    for i, row in enumerate(rows):
        before = first.setdefault(_content(row, i), row)
        if _split(before) != _split(row):
            raise ConceptError(
                f"{source} has one row in two splits, {_split(before)} and {_split(row)}: take it out of one, for what "
                f"is learnt there would be tested on itself ({written(_text(row))})"
            )
    return list(first.values())


def repeats(counts: Mapping[str, int]) -> str:
    """A sentence on how many repeats were left out of each noun's rows, as in `{"row": 2}`; "" for none."""
    found = [counted(n, noun) for noun, n in counts.items() if n]
    named = " and ".join(part for part in (", ".join(found[:-1]), *found[-1:]) if part)
    return f"{named} said the same as another and count{'s' * (sum(counts.values()) == 1)} once." if found else ""


def without_repeats(source: str, concept: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What a concept's file says, each row once, and the sentence on those left out. Raises as `distinct` does."""
    left, counts = dict(concept), dict[str, int]()
    for key, noun in _LISTS.items():
        if isinstance(rows := concept.get(key), list):
            left[key] = distinct(source, rows)
            counts[noun] = len(rows) - len(left[key])
    if isinstance(unpaired := concept.get("unpaired"), dict):
        sides = {side: rows for side in SIDES if isinstance(rows := unpaired.get(side), list)}
        kept = {side: distinct(source, rows) for side, rows in sides.items()}
        left["unpaired"] = unpaired | kept
        counts["text"] = sum(len(sides[side]) - len(kept[side]) for side in sides)
    return left, repeats(counts)


def _content(row: object, place: int) -> Hashable:
    """What makes two rows the same; the place of one that is no row of texts, of which the checks will tell."""
    values = {key: row[key] for key in row if row[key] is not None} if isinstance(row, dict) else {"text": row}
    values.pop("split", None)
    if not all(isinstance(part, str) for entry in values.items() for part in entry):  # lists may go on without end
        return place
    try:
        return content_key(values)
    except UnicodeEncodeError:  # half of a surrogate pair
        return place


def _split(row: object) -> object:
    return (row.get("split") if isinstance(row, dict) else None) or "train"


def _text(row: object) -> object:
    names = ("positive", "matching", "text")
    return next((row[name] for name in names if row.get(name)), row) if isinstance(row, dict) else row
