"""What a file that is no contrast holds, and the one command that would read it."""

import shlex
from collections.abc import Sequence

from steering_core.concepts.formats.columns import found_prompt, listed
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.labels import LABEL_COLUMNS, TEXT_COLUMNS
from steering_core.concepts.formats.messages import turns_of
from steering_core.concepts.formats.sides import text_column

IMPORT = "steer concepts import"


def refusal(contents: Contents, forms: Sequence[str]) -> str:
    """The error for contents of no known form: the shape, the command that reads it, and the forms that there are."""
    shape, command = _shape(contents)
    known = "\n".join(f"  {form}" for form in forms)
    return (
        f"{contents.source} holds {shape}: that is no contrast by itself. {command}\n"
        f"These forms are known by what they hold:\n{known}"
    )


def _shape(contents: Contents) -> tuple[str, str]:
    """What the contents are, and a sentence with the command."""
    file = shlex.quote(contents.source)
    one_side = f"If this is one side: {IMPORT} --positive-file {file} --negative-file OTHER_FILE"
    if contents.strings:
        return "a list of plain texts, without two sides", one_side
    if {"models", "concepts"} <= {*(contents.mapping or ()), *contents.columns}:
        return "a spec", f"`steer run {file}` runs it; its concepts are the names or files under its key `concepts`."
    if contents.mapping is not None:
        keys = listed([str(key) for key in contents.mapping]) or "(none)"
        return f"a mapping with the keys {keys}", f"Save its rows as a list, then: {IMPORT} ROWS_FILE"
    if not contents.rows:
        return "a table without rows", "Save it with rows below its header."
    shape = f"rows with the columns {listed(contents.columns)}"
    if values := _labels(contents):
        label, one, other = map(shlex.quote, values)
        return shape, f"Say which label is which: {IMPORT} {file} --label {label} --positive {one} --negative {other}"
    prompt, _ = found_prompt(contents.columns)
    sides = [name for name in contents.columns if name != prompt and _holds_texts(contents, name)]
    if len(sides) > 1 and not (text_column(contents) and not prompt):
        if not prompt and len(sides) == 3:  # what is answered mostly stands before its answers
            prompt, *sides = sides
        one, other = map(shlex.quote, sides[:2])
        option = f" --prompt {shlex.quote(prompt)}" if prompt else ""
        which = ", and which the prompt" if prompt else ""
        if asks := _header(contents):
            return shape, asks
        return shape, (
            f"Say which column is which side{which}, here or the other way round: "
            f"{IMPORT} {file} --positive {one} --negative {other}{option}"
        )
    return shape, one_side


def _header(contents: Contents) -> str:
    """A sentence for a table whose first row of texts may have been read as its header, in place of a command.

    A command that names that row's texts as columns would lose the row.
    """
    ends = [name for name in contents.columns if name.rstrip().endswith((".", "?", "!"))]
    if not ends:
        return ""
    line = "positive,negative" if len(contents.columns) == 2 else "prompt,positive,negative"
    return (
        f"Its first line was read as the names of its columns: if it is a row, put a line above it such as `{line}`; "
        "if it holds names, say which column is which side by --positive and --negative."
    )


def _labels(contents: Contents) -> tuple[str, str, str] | None:
    """The column of labels, and two of its labels, where rows have a text and a label."""
    lower = {name.lower().strip(): name for name in contents.columns}
    if not any(name in lower for name in TEXT_COLUMNS):
        return None
    for column in (lower[name] for name in LABEL_COLUMNS if name in lower):
        values = list(dict.fromkeys(str(row.values.get(column)) for row in contents.rows))
        if 2 <= len(values) < max(3, len(contents.rows) // 2 + 1):
            return column, values[0], values[1]
    return None


def _holds_texts(contents: Contents, column: str) -> bool:
    values = [row.values.get(column) for row in contents.rows]
    values = [value for value in values if value is not None] if contents.unpaired else values
    return all((isinstance(value, str) and value.strip()) or turns_of(value) for value in values)
