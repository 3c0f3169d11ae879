"""Rows that hold a contrast: CAA's and Anthropic's evaluations, and tables with a column for either side."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steering_core.concepts.concept import Card, Concept, Item, Pair, Unpaired
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.repeats import distinct, repeats
from steering_core.concepts.formats.row_texts import RowTexts, lone_texts, texts_of_row
from steering_core.concepts.formats.tables import Record
from steering_core.concepts.neutral import neutral_prompts
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_fraction
from steering_core.foundation.validation import counted, shown

PROMPT_COLUMNS = ("prompt", "question", "instruction", "input", "query")
BEFORE_PROMPT = ("system", "system_prompt", "system_message", "context", "passage", "instruction")
AFTER_PROMPT = ("prompt", "question", "query", "input")
AFTER_INSTRUCTION = ("input", "context", "passage")
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
MAX_NAMED = 8  # columns and rows that a note names
_COUNTED = re.compile(r"Imported: .*? from [0-9,]+ rows?\.\s*")  # the first sentence of a card
_NOT_NOTED = re.compile(r"id|idx|index|unnamed: \d+", re.IGNORECASE)  # columns that only number the rows


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold the two sides, and the prompt where there is one.

    `around` are columns whose texts stand around the prompt, in their order and the prompt among them: a system prompt,
    a context, an instruction's input.
    """

    positive: str
    negative: str
    prompt: str | None = None
    around: tuple[str, ...] = ()


def found_columns(names: Sequence[str]) -> Columns | None:
    """The columns of a contrast among `names`, whatever their case; None where no pair of columns, or several, may be.

    Besides those of SIDE_COLUMNS a name and its negation are sides: `polite` and `not_polite`.
    """
    lower = {name.lower().strip(): name for name in names}
    sides = [(lower[p], lower[n]) for p, n in SIDE_COLUMNS if p in lower and n in lower]
    sides = sides or [(lower[name], lower[other]) for name in lower for other in _negations(name) if other in lower]
    if len(sides) != 1:
        return None
    prompt, around = found_prompt(names)
    return Columns(*sides[0], prompt, around)


def found_prompt(names: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The column of the prompt, and those whose texts stand around it where there are others."""
    lower = {name.lower().strip(): name for name in names}
    main = next((name for name in PROMPT_COLUMNS if name in lower), None)
    if main is None:
        return None, ()
    order: tuple[str, ...] = (*BEFORE_PROMPT, *AFTER_PROMPT)
    if main == "instruction":
        order = (*(name for name in BEFORE_PROMPT if name not in AFTER_INSTRUCTION), *AFTER_INSTRUCTION)
    around = tuple(lower[name] for name in order if name in lower)
    return lower[main], around if len(around) > 1 else ()


def _negations(name: str) -> list[str]:
    return [f"{word}{mark}{name}" for word in ("non", "not", "no") for mark in "_- "]


def concept_of_rows(contents: Contents, name: str, columns: Columns, chat: bool | None = None) -> Concept:
    """The concept in rows of a contrast.

    Rows with a prompt are dealt by content, three in five to pairs and the others to held-out items. They are `chat`
    unless told otherwise; rows without a prompt are raw text. Rows that say the same twice count once. Open prompts for
    sampling come from the neutral ones. Unpaired contents give unpaired texts, of which none are held-out items. The
    card says what was left out. Raises ConceptError with every row at fault.
    """
    columns = replace(columns, around=_textual(contents, columns))
    if contents.unpaired:
        return _unpaired_concept(contents, name, columns, chat)
    texts = _texts(contents, columns)
    chat = any("prompt" in row for row in texts) if chat is None else chat
    rows = distinct(contents.source, [{key: _plain(value, chat) for key, value in row.items()} for row in texts])
    given = {row.get("split") for row in rows}
    constant = len({row.get("prompt") for row in rows}) == 1
    dealt: tuple[list[RowTexts], list[RowTexts]] = ([], [])
    for row in rows:
        is_training = "split" not in row and {"validation", "test"} <= given  # the file holds out rows of its own
        dealt[not is_training and _is_held_out(row, len(rows), constant)].append(row)
    pairs, items = dealt
    made = f"Imported: {counted(len(pairs), 'pair')} and {counted(len(items), 'item')} from {_origin(contents)}."
    notes = [*contents.notes, *_notes(contents, columns), repeats({"row": len(texts) - len(rows)})]
    return Concept(
        name=name,
        description=_imported_from(contents.source),
        chat=chat,
        pairs=tuple(Pair.model_validate(row) for row in pairs),
        items=tuple(Item.model_validate(_as_item(row)) for row in items),
        prompts=neutral_prompts()[:SAMPLING_PROMPTS],
        card=Card(made=" ".join(filter(None, [made, *notes]))),
    )


def _unpaired_concept(contents: Contents, name: str, columns: Columns, chat: bool | None) -> Concept:
    """The concept of rows whose sides do not belong together; a row may have one alone."""

    def texts_under(column: str) -> list[RowTexts]:
        """The texts of a column, without empty ones."""
        filled = [row for row in contents.rows if row.values.get(column) not in (None, "")]
        return _read(contents.source, filled, lambda row: lone_texts(row, column, columns.prompt, columns.around))

    sides = {
        side: texts_under(column) for side, column in (("positive", columns.positive), ("negative", columns.negative))
    }
    if missing := [side for side, texts in sides.items() if not texts]:
        raise ConceptError(f"{contents.source} has no text of the {missing[0]} side: a contrast needs both")
    chat = any("prompt" in text for texts in sides.values() for text in texts) if chat is None else chat
    plain = {side: [{k: _plain(text[k], chat) for k in text} for text in texts] for side, texts in sides.items()}
    kept = {side: distinct(contents.source, texts) for side, texts in plain.items()}
    n_texts = sum(map(len, sides.values()))
    made = (
        f"Imported: {len(kept['positive'])} positive and {len(kept['negative'])} negative texts, unpaired, from "
        f"{_origin(contents)}."
    )
    n_repeats = n_texts - sum(map(len, kept.values()))
    notes = [*contents.notes, *_notes(contents, columns), repeats({"row": n_repeats})]
    return Concept(
        name=name,
        description=_imported_from(contents.source),
        chat=chat,
        unpaired=Unpaired.model_validate(kept),
        prompts=neutral_prompts()[:SAMPLING_PROMPTS],
        card=Card(made=" ".join(filter(None, [made, *notes]))),
    )


def notes_of(concept: Concept, source: str) -> str:
    """What the card of a concept says of how the rows of `source` were read, beyond their number.

    Empty where it says no more, and for a concept that was not read off rows: its file has a card of its own.
    """
    if concept.description != _imported_from(source):
        return ""
    return _COUNTED.sub("", concept.card.made)


def _imported_from(source: str) -> str:
    return f"Imported from {source.rpartition('/')[2]}."


def _origin(contents: Contents) -> str:
    """How many rows the file has, in words."""
    return counted(contents.n_read or len(contents.rows), "row")


def _textual(contents: Contents, columns: Columns) -> tuple[str, ...]:
    """Of the columns around the prompt those that hold only texts, or nothing; lists and numbers are none to join."""
    return tuple(
        name
        for name in columns.around
        if name == columns.prompt or all(isinstance(row.values.get(name), str | None) for row in contents.rows)
    )


def _plain(text: str, chat: bool) -> str:
    """A text as it is, or without white space around it for a chat template, which brings its own."""
    return text.strip() if chat else text


def _is_held_out(row: Mapping[str, str], n_rows: int, constant: bool) -> bool:
    """Whether a row becomes an item: by its prompt, or by its sides where all rows have the same prompt."""
    if "prompt" not in row or n_rows < MIN_ROWS:
        return False
    by = (row["positive"], row["negative"]) if constant else (row["prompt"],)
    return content_fraction("held out", *by) < HELD_OUT


def _texts(contents: Contents, columns: Columns) -> list[RowTexts]:
    """The wanted texts of every row. Raises ConceptError listing the faults of the rows."""
    wanted = columns.positive, columns.negative, columns.prompt, columns.around
    return _read(contents.source, contents.rows, lambda row: texts_of_row(row, *wanted))


def _read(
    source: str, rows: Sequence[Record], texts_of: Callable[[Record], tuple[list[RowTexts], list[str]]]
) -> list[RowTexts]:
    read = [(row, texts_of(row)) for row in rows]
    faults = [f"{row.where}: {fault}" for row, (_, found) in read for fault in found]
    if faults:
        first = "\n".join(f"  {fault}" for fault in faults[:20])
        more = f"\n  … and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise ConceptError(f"{source} has {counted(len(faults), 'fault')}:\n{first}{more}")
    return [text | _split(row) for row, (texts, _) in read for text in texts]


def _split(row: Record) -> RowTexts:
    """The row's split, where the file holds it out. Other rows are also dealt to splits that the file lacks."""
    return {"split": row.split} if row.split in ("validation", "test") else {}


def _notes(contents: Contents, columns: Columns) -> list[str]:
    """What a reader has to know of how the rows were read: columns around the prompt and left out, ids that repeat."""
    used = {columns.positive, columns.negative, columns.prompt, *columns.around}
    unused = [name for name in contents.columns if name not in used and not _NOT_NOTED.fullmatch(name)]
    notes = [f"The prompt is {' + '.join(columns.around)}."] if len(columns.around) > 1 else []
    notes += [f"Columns left out: {listed(unused)}."] if unused else []
    return notes + _shared_ids(contents.rows, columns)


def listed(names: Sequence[object]) -> str:
    """The first names, and how many more there are."""
    more = f", … and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(shown, names[:MAX_NAMED])) + more


def _shared_ids(rows: Sequence[Record], columns: Columns) -> list[str]:
    """A warning where rows that differ share an id: the file may be a joined table, or hold versions of one row."""
    first: dict[Any, Record] = {}
    shared: dict[Any, tuple[Record, Record]] = {}
    for row in rows:
        identifier = row.values.get("id")
        if isinstance(identifier, str | int | float) and identifier != "":
            before = first.setdefault(identifier, row)
            wanted = (columns.positive, columns.negative, columns.prompt)
            if any(before.values.get(name) != row.values.get(name) for name in wanted if name):
                shared.setdefault(identifier, (before, row))
    if not shared:
        return []
    identifier, (one, other) = next(iter(shared.items()))
    stand = "ids stand" if len(shared) > 1 else "id stands"
    return [
        f"Warning: {len(shared)} {stand} on rows that differ, such as {shown(identifier)} on {one.where} and "
        f"{other.where}; all were read."
    ]


def _as_item(row: RowTexts) -> RowTexts:
    names = {"positive": "matching", "negative": "not_matching"}
    return {names.get(key, key): value for key, value in row.items()}


def with_items(concept: Concept, others: Concept) -> Concept:
    """All rows of `concept` as pairs, and all rows of `others` as its held-out items (CAA's two files)."""
    turned = [Pair(prompt=i.prompt, positive=i.matching, negative=i.not_matching, split=i.split) for i in concept.items]
    held = [
        Item(prompt=p.prompt, matching=p.positive, not_matching=p.negative, split=p.split)
        for p in others.pairs
        if p.prompt is not None
    ]
    if len(held) < len(others.pairs) or others.unpaired is not None:
        lacking = "texts of either side that are not paired" if others.unpaired is not None else "rows without a prompt"
        raise ConceptError(f"{others.name} has {lacking}: they cannot be held-out items")
    return concept.model_copy(update={"pairs": (*concept.pairs, *turned), "items": (*held, *others.items)})
