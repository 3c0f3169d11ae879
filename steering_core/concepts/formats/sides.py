"""Plain texts in a file, and two such files as the two sides of a concept."""

from pathlib import Path

from steering_core.concepts.concept import MAX_ROWS, Concept
from steering_core.concepts.formats.columns import PROMPT_COLUMNS, Columns, concept_of_rows
from steering_core.concepts.formats.contents import Contents, read_contents
from steering_core.concepts.formats.labels import TEXT_COLUMNS
from steering_core.concepts.formats.row_texts import text_fault
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.errors import ConceptError


def text_column(contents: Contents) -> str | None:
    """The column of rows that hold one text each: one of a known name, or the only one."""
    lower = {name.lower().strip(): name for name in contents.columns}
    known = next((lower[name] for name in (*PROMPT_COLUMNS, *TEXT_COLUMNS) if name in lower), None)
    return known or (contents.columns[0] if len(contents.columns) == 1 else None)


def texts_in(source: str | Path, what: str) -> tuple[str, ...]:
    """The texts in a file, in its order: lines, a list of strings, or rows with a column of texts.

    Raises ConceptError, which calls a text `what`, where there are none or one is at fault.
    """
    contents = read_contents(Path(source), lines=True)
    column = text_column(contents)
    texts: tuple[object, ...] = contents.strings or tuple(row.values.get(column) for row in contents.rows if column)
    if not texts:
        names = ", ".join(contents.columns or map(str, contents.mapping or {}))
        raise ConceptError(
            f"{source} holds no {what}s: give a text a line, a list of strings, or rows that all have a `prompt`, "
            f"`question` or `text`" + (f"; it has {names:.200}" if names else "")
        )
    if len(texts) > MAX_ROWS:
        raise ConceptError(f"{source} has more than {MAX_ROWS:,} texts: draw a sample of it first")
    for i, text in enumerate(texts, 1):
        if fault := text_fault(text):
            raise ConceptError(f"{source}: {what} {i} {fault}")
    return tuple(map(str, texts))


def concept_of_sides(
    positive: str, negative: str, name: str, chat: bool | None = None, unpaired: bool = False
) -> Concept:
    """The concept of two files, one a side.

    Files with equally many texts make pairs, line by line, unless `unpaired` is given. Files of different numbers are
    always unpaired.
    """
    sides: dict[str, tuple[str, ...]] = {"positive": texts_in(positive, "text"), "negative": texts_in(negative, "text")}
    unpaired = unpaired or len(sides["positive"]) != len(sides["negative"])
    source, notes = f"{positive} and {Path(negative).name}", tuple[str, ...]()
    if unpaired:
        rows = [Record(f"{side} text {i}", {side: text}) for side in sides for i, text in enumerate(sides[side], 1)]
    else:
        both = enumerate(zip(*sides.values(), strict=True), 1)
        rows = [Record(f"text {i}", {"positive": one, "negative": other}) for i, (one, other) in both]
        notes = (
            "The sides were two files: texts of one place make a pair; "
            "`steer concepts import --unpaired` if they do not belong together.",
        )
    contents = Contents(source, tuple(rows), notes=notes, unpaired=unpaired)
    concept = concept_of_rows(contents, name, Columns("positive", "negative"), chat)
    return concept.model_copy(update={"description": f"{Path(positive).name} against {Path(negative).name}."})
