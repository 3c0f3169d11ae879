"""Rows that hold a contrast: CAA's and Anthropic's evaluations, and tables with a column for either side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.concepts.concept import MAX_TEXT, Card, Concept, Item, Pair
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.tables import Row
from steering_core.concepts.neutral import neutral_prompts
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_fraction, content_key
from steering_core.foundation.validation import shown

PROMPT_COLUMNS = ("prompt", "question", "instruction", "input", "query")
SIDE_COLUMNS = (
    ("positive", "negative"),
    ("pos", "neg"),
    ("matching", "not_matching"),
    ("chosen", "rejected"),
    ("answer_matching_behavior", "answer_not_matching_behavior"),
)
HELD_OUT = 0.4  # share of the rows with a prompt that become items, where there are enough
MIN_ROWS = 20
SAMPLING_PROMPTS = 16


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold the two sides, and the prompt where there is one."""

    positive: str
    negative: str
    prompt: str | None = None


def found_columns(names: Sequence[str]) -> Columns | None:
    """The columns of a contrast among `names`, whatever their case; None where there is none or more than one."""
    lower = {name.lower().strip(): name for name in names}
    sides = [(lower[p], lower[n]) for p, n in SIDE_COLUMNS if p in lower and n in lower]
    prompts = [lower[name] for name in PROMPT_COLUMNS if name in lower]
    return Columns(*sides[0], prompts[0] if prompts else None) if len(sides) == 1 else None


def concept_of_rows(contents: Contents, name: str, columns: Columns, chat: bool | None = None) -> Concept:
    """The concept in rows of a contrast.

    Rows with a prompt are dealt by content, three in five to pairs and the others to held-out items. They are `chat`
    unless told otherwise; rows without a prompt are raw text. Rows that say the same twice count once. Open prompts for
    sampling come from the neutral ones. Raises ConceptError with every row at fault.
    """
    chat = columns.prompt is not None if chat is None else chat
    texts = _texts(contents, columns)
    rows = _distinct([{key: _plain(value, chat) for key, value in row.items()} for row in texts])
    dealt: tuple[list[dict[str, str]], list[dict[str, str]]] = ([], [])
    for row in rows:
        dealt[_is_held_out(row, len(rows))].append(row)
    pairs, items = dealt
    return Concept(
        name=name,
        description=f"Imported from {contents.source.rpartition('/')[2]}.",
        chat=chat,
        pairs=tuple(Pair(**row) for row in pairs),
        items=tuple(Item(prompt=r["prompt"], matching=r["positive"], not_matching=r["negative"]) for r in items),
        prompts=neutral_prompts()[:SAMPLING_PROMPTS],
        card=Card(made=f"Imported: {len(pairs)} pairs and {len(items)} items from {len(texts)} rows."),
    )


def _plain(text: str, chat: bool) -> str:
    """A text as it is, or without white space around it for a chat template, which brings its own."""
    return text.strip() if chat else text


def _is_held_out(row: Mapping[str, str], n_rows: int) -> bool:
    return "prompt" in row and n_rows >= MIN_ROWS and content_fraction("held out", row["prompt"]) < HELD_OUT


def _texts(contents: Contents, columns: Columns) -> list[dict[str, str]]:
    """The wanted texts of every row. Raises ConceptError listing the rows that lack one or repeat an id."""
    wanted = {"positive": columns.positive, "negative": columns.negative}
    wanted |= {"prompt": columns.prompt} if columns.prompt else {}
    faults, texts, ids = [], [], dict[Any, Row]()
    for row in contents.rows:
        faults += [f"{row.where}: {fault}" for fault in _faults(row, wanted)]
        identifier = row.values.get("id")
        if isinstance(identifier, str | int | float) and identifier != "":
            before = ids.setdefault(identifier, row)
            faults += [f"{row.where}: the id {shown(identifier)} is also that of {before.where}"] * (before is not row)
        texts.append({key: row.values.get(column) for key, column in wanted.items()})
    if faults:
        first = "\n".join(f"  {fault}" for fault in faults[:20])
        more = f"\n  … and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise ConceptError(f"{contents.source} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{first}{more}")
    return texts  # type: ignore[return-value]  # every value was found to be a text


def _faults(row: Row, wanted: Mapping[str, str]) -> list[str]:
    found = []
    for column in wanted.values():
        if column not in row.values:
            found.append(f"there is no {column!r}")
        elif fault := text_fault(row.values[column]):
            found.append(f"{column!r} {fault}")
    same = row.values.get(wanted["positive"]) == row.values.get(wanted["negative"])
    return found or ["both sides are the same text"] * same


def text_fault(value: Any) -> str | None:
    """What is wrong with a value that should be a text; None where nothing is."""
    if not isinstance(value, str):
        return f"must be a text, not {type(value).__name__} ({shown(value)})"
    if not value.strip():
        return "is empty"
    if len(value) > MAX_TEXT:
        return f"has {len(value):,} letters, more than {MAX_TEXT:,}: longer than any context"
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        return f"holds half of a surrogate pair ({value!a:.60}): the file was cut inside a character"
    return None


def _distinct(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({content_key(row): row for row in rows}.values())


def with_items(concept: Concept, others: Concept) -> Concept:
    """All rows of `concept` as pairs, and all rows of `others` as its held-out items (CAA's two files)."""
    turned = [Pair(prompt=i.prompt, positive=i.matching, negative=i.not_matching) for i in concept.items]
    held = [
        Item(prompt=p.prompt, matching=p.positive, not_matching=p.negative)
        for p in others.pairs
        if p.prompt is not None
    ]
    if len(held) < len(others.pairs):
        raise ConceptError(f"{others.name} has rows without a prompt: they cannot be held-out items")
    return concept.model_copy(update={"pairs": (*concept.pairs, *turned), "items": (*held, *others.items)})
