"""Rows of one text with a label each, as KTO, AxBench and tables of statements have them: pairs, or unpaired texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from steering_core.concepts.concept import Side
from steering_core.concepts.formats.columns import Columns, found_prompt
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import shown, written

LABEL_COLUMNS = ("label", "category")
TEXT_COLUMNS = ("completion", "output", "response", "answer", "statement", "text", "sentence", "content")
POSITIVE = ("true", "1", "1.0", "positive", "pos", "yes", "chosen", "desirable")
NEGATIVE = ("false", "0", "0.0", "-1", "negative", "neg", "no", "rejected", "undesirable")
MAX_LABELS = 8  # that an error shows


@dataclass(frozen=True)
class LabelColumn:
    """The column of the labels, and the values that mean either side, where they are not among the known ones."""

    column: str
    positive: str | None = None
    negative: str | None = None

    def side_of(self, value: Any) -> Side | None:
        """The side that a label means; None where it means neither."""
        text = str(value).strip()
        if self.positive is not None or self.negative is not None:
            return "positive" if text == self.positive else "negative" if text == self.negative else None
        return "positive" if text.lower() in POSITIVE else "negative" if text.lower() in NEGATIVE else None


def found_labels(contents: Contents) -> LabelColumn | None:
    """The column of labels, where every row's label is known to mean a side, and both sides occur; else None."""
    lower = {name.lower().strip(): name for name in contents.columns}
    if not any(name in lower for name in TEXT_COLUMNS):
        return None
    for labels in (LabelColumn(lower[name]) for name in LABEL_COLUMNS if name in lower):
        if {labels.side_of(row.values.get(labels.column)) for row in contents.rows} == {"positive", "negative"}:
            return labels
    return None


def labelled_rows(contents: Contents, labels: LabelColumn, unpaired: bool = False) -> tuple[Contents, Columns]:
    """Rows of one labelled text each as rows with a column for either side, and these columns.

    Rows on one prompt are paired; rows without a partner are left out, which the notes say. Where there is no prompt,
    or fewer than half of the rows have a partner, or with `unpaired`, every row is kept with its one side.
    """
    text = _text_column(contents, labels)
    sides: dict[Side, list[Record]] = {"positive": [], "negative": []}
    for row in contents.rows:
        side = labels.side_of(row.values.get(labels.column))
        if side is None:
            raise ConceptError(_unknown_label(contents, labels, row))
        sides[side].append(row)
    if missing := [side for side, rows in sides.items() if not rows]:
        raise ConceptError(f"{contents.source}: no row's {labels.column!r} means the {missing[0]} side")
    prompt, around = found_prompt([name for name in contents.columns if name not in (text, labels.column)])
    columns = Columns("positive", "negative", prompt, around)
    pairs = _paired(sides, around or (prompt,)) if prompt and not unpaired else []
    if 4 * len(pairs) < len(contents.rows):
        lone = (_sided(row, side, text, labels) for side, rows in sides.items() for row in rows)
        return replace(contents, rows=tuple(lone), unpaired=True), columns
    rows = tuple(_both(one, other, text, labels) for one, other in pairs)
    over = len(contents.rows) - 2 * len(pairs)
    notes = [f"Rows were paired by their {labels.column!r}."]
    if over:
        were = "s had no partner and were" if over > 1 else " had no partner and was"
        notes.append(f"{over} row{were} left out (`steer concepts import --unpaired` keeps all).")
    return Contents(contents.source, rows, notes=(*contents.notes, *notes), n_read=len(contents.rows)), columns


def _text_column(contents: Contents, labels: LabelColumn) -> str:
    lower = {name.lower().strip(): name for name in contents.columns if name != labels.column}
    if labels.column not in contents.columns:
        raise ConceptError(f"{contents.source} has no column {labels.column!r}; there are: {_some(contents.columns)}")
    if text := next((lower[name] for name in TEXT_COLUMNS if name in lower), None):
        return text
    raise ConceptError(
        f"{contents.source} has labels but no text to each: call its column one of {', '.join(TEXT_COLUMNS)}"
    )


def _unknown_label(contents: Contents, labels: LabelColumn, row: Record) -> str:
    there = list(dict.fromkeys(str(row.values.get(labels.column)) for row in contents.rows))
    label = written(row.values.get(labels.column))
    return (
        f"{contents.source}, {row.where}: the {labels.column!r} {label} means no side; "
        f"say which labels do, as in `steer concepts import FILE --label {labels.column} --positive LABEL --negative "
        f"LABEL`. There are: {_some(there)}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:MAX_LABELS])) + (", …" if len(names) > MAX_LABELS else "")


def _paired(sides: dict[Side, list[Record]], same: Sequence[str]) -> list[tuple[Record, Record]]:
    """Pairs of a positive and a negative row that agree in the columns `same` and the file's split, in their order."""
    groups: dict[str, tuple[list[Record], list[Record]]] = {}
    for i, side in enumerate((sides["positive"], sides["negative"])):
        for row in side:
            key = content_key("paired", row.split, [str(row.values.get(name)) for name in same])
            groups.setdefault(key, ([], []))[i].append(row)
    return [pair for both in groups.values() for pair in zip(*both, strict=False)]


def _sided(row: Record, side: Side, text: str, labels: LabelColumn) -> Record:
    """The row with its text under the name of its side."""
    others = {name: value for name, value in row.values.items() if name not in (text, labels.column)}
    return Record(row.where, others | {side: row.values.get(text)}, row.split)


def _both(one: Record, other: Record, text: str, labels: LabelColumn) -> Record:
    shared = {name: value for name, value in one.values.items() if name not in (text, labels.column)}
    sides = {"positive": one.values.get(text), "negative": other.values.get(text)}
    return Record(f"{one.where} and {other.where}", shared | sides, one.split)
