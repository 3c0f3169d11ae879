"""Tables as programs write them: CSV and TSV of spreadsheets and pandas, as `Record`s.

The delimiter is the one under which the header names something known, or else the first lines are of one length. An
index without a name and columns without a name or a value are left out; all else is kept.
"""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from steering_core.concepts.concept import Split
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import shown

KNOWN_COLUMNS = frozenset(
    {"prompt", "question", "instruction", "input", "query", "system", "context", "label", "category", "id"}
    | {"positive", "negative", "pos", "neg", "matching", "not_matching", "chosen", "rejected"}
    | {"answer_matching_behavior", "answer_not_matching_behavior"}
    | {"text", "statement", "completion", "output", "response", "answer", "sentence", "content"}
)
MAX_LINE = 16 << 20  # bytes; longer than any context, and what a broken export looks like
MAX_NAME = 80  # letters of a column's name
_DELIMITERS = (",", "\t", ";")
_SAMPLED = 5  # records whose lengths are compared
_HEAD = 4 << 20  # letters in which these are looked for
_ODD = set(":{}[]#")  # a header that holds one of these may be YAML
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*')
_SEPARATOR = re.compile(r'\A\s*"?sep=([^\w\s]|\t)"?[^\S\r\n]*(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line
_INDEX = re.compile(r"(Unnamed: \d+)?")  # pandas' index, as written and as read and written again


@dataclass(frozen=True)
class Record:
    """One record of a file, where it stands ("line 12"), and the split that the file gives it, where it gives one."""

    where: str
    values: dict[str, Any] = field(default_factory=dict)
    split: Split | None = None


def delimiter_of(text: str) -> str | None:
    """The delimiter of a CSV file whose first line names two columns or more; None where it is no CSV file.

    A first line such as `sep=;`, as Excel has it, says so itself.
    """
    if said := _SEPARATOR.match(text):
        return said[1]
    found = [delimiter for delimiter in _DELIMITERS if _is_header(text, delimiter)]
    ranks = {delimiter: (_n_known(text, delimiter), _is_even(text, delimiter)) for delimiter in found}
    return max(found, key=lambda delimiter: ranks[delimiter], default=None)


def _is_header(text: str, delimiter: str) -> bool:
    line = first_line(text)
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    named = [name for name in names if name]
    if len(names) < 2 or not named or any(len(name) >= MAX_NAME for name in names) or line.startswith("- "):
        return False
    if len(named) == len(names) and not any(set(name) & _ODD for name in named):
        return True
    sure = _n_known(text, delimiter) > 0 or (":" not in line and not line.startswith("#"))
    return sure and _is_even(text, delimiter)


def first_line(text: str) -> str:
    """The first line that holds more than white space."""
    return re.split(r"[\r\n]", without_blank_lines(text[:_HEAD]), maxsplit=1)[0]


def without_blank_lines(text: str) -> str:
    """The text from its first line on that holds more than white space; that line is whole, its first tab included.

    A line that only names the delimiter counts as blank.
    """
    return re.sub(r"\A(?:[^\S\r\n]*[\r\n]+)+", "", _SEPARATOR.sub("", text, count=1))


def _n_known(text: str, delimiter: str) -> int:
    return sum(name.strip().strip('"').lower() in KNOWN_COLUMNS for name in first_line(text).split(delimiter))


def _is_even(text: str, delimiter: str) -> bool:
    """Whether the first lines, of which there are two or more, have one number of values."""
    head = without_blank_lines(text[:_HEAD])
    head = head if len(text) <= _HEAD else head[: head.rfind("\n") + 1]
    try:
        records = list(itertools.islice(_records(head, delimiter), _SAMPLED))
    except csv.Error:
        return False
    return len(records) > 1 and len({len(values) for _, values in records}) == 1


def table_rows(source: str, text: str, delimiter: str) -> Iterator[Record]:
    """The rows of a CSV file with a header. Raises ConceptError with the line that does not fit."""
    body = without_blank_lines(text)
    skipped = text[: len(text) - len(body)].count("\n")
    records, begins = _records(body, delimiter), 1
    try:
        begins, header = next(records)
        names = _names(source, header)
        kept = _kept(header, body, delimiter)
        for begins, values in records:
            where = f"line {begins + skipped}"
            if len(values) != len(names):
                raise ConceptError(
                    f"{source}, {where} has {len(values)} values for {len(names)} columns: quote the commas"
                )
            yield Record(where, {name: value for name, value, keep in zip(names, values, kept, strict=True) if keep})
    except _Unreadable as fault:
        raise ConceptError(f"{source}, line {fault.line + skipped} is not CSV: {fault} (a quote left open?)") from fault


class _Unreadable(csv.Error):
    """A record that csv cannot read, and the line on which it begins."""

    def __init__(self, line: int, fault: csv.Error) -> None:
        super().__init__(str(fault))
        self.line = line


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of each record that holds anything."""
    if delimiter == "\t" and (plain := _tabbed(text)) is not None:
        yield from plain
        return
    csv.field_size_limit(MAX_LINE)  # csv's own is 131,072 letters, for all of a process
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield begins, values
            begins = reader.line_num + 1
    except csv.Error as fault:
        raise _Unreadable(begins, fault) from fault


def _tabbed(text: str) -> Iterator[tuple[int, list[str]]] | None:
    """The records of a TSV file that has one on every line; None where one goes over several lines.

    Such files are written with quotes as CSV has them and without. A field counts as quoted where its quotes are
    those of CSV from end to end; any other quote is a letter like all others.
    """
    lines = [(i, line.split("\t")) for i, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]
    if len({len(values) for _, values in lines}) != 1:
        return None
    return ((i, [_unquoted(value) for value in values]) for i, values in lines)


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return quoted[1].replace('""', '"') if quoted else value


def _names(source: str, header: Sequence[str]) -> list[str]:
    """The columns' names; one without a name is called by its place."""
    names = [name.strip() or f"column {i}" for i, name in enumerate(header, 1)]
    check_names(source, names)
    return names


def check_names(source: str, names: Sequence[str]) -> None:
    """Raise ConceptError where two columns are of one name."""
    if twice := next((name for name, n in Counter(names).items() if n > 1), None):
        raise ConceptError(f"{source} names a column twice: {shown(twice)}")


def _kept(header: Sequence[str], text: str, delimiter: str) -> list[bool]:
    """Whether each column is kept: not one without a name that is empty or, as the first, numbers the rows."""
    dropped = {i for i, name in enumerate(header) if _INDEX.fullmatch(name.strip())}
    records = _records(text, delimiter) if dropped else iter(())
    for _, values in itertools.islice(records, 1, None):
        dropped -= {i for i in dropped if (value := "".join(values[i : i + 1]).strip()) and (i or not value.isdigit())}
    return [i not in dropped for i in range(len(header))]
