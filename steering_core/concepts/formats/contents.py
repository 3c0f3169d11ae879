"""`Contents`: a file as rows with their places, or as one mapping; what it is, its first bytes say.

JSON, JSON lines, CSV (comma, semicolon or tab), Parquet and YAML. Whatever is wrong with a file is a ConceptError that
names the line.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.errors import ConceptError
from steering_core.validation import parsed_yaml

MAX_BYTES = 256 << 20  # of a text file
MAX_LINE = 16 << 20  # bytes; longer than any context, and what a broken export looks like
MAX_ROWS = 200_000
_DELIMITERS = (",", "\t", ";")


@dataclass(frozen=True)
class Row:
    """One record of a file, and where it stands ("line 12")."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Contents:
    """What a file holds: `rows`, or one `mapping`, or (JSON) a list of plain `strings`. `source` names it in errors."""

    source: str
    rows: tuple[Row, ...] = ()
    mapping: Mapping[str, Any] | None = None
    strings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the rows' values, in the order in which they first occur."""
        return tuple(dict.fromkeys(str(name) for row in self.rows for name in row.values))


def read_contents(path: Path) -> Contents:
    """The contents of a file. Raises ConceptError where it cannot be read as any form."""
    try:
        if path.is_dir():
            raise ConceptError(f"{path} is a folder, not a file of contrast data: name one file in it")
        with path.open("rb") as handle:
            if handle.read(4) == b"PAR1":
                return _parquet(path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConceptError(f"{path} has {size >> 20:,} MB: text is read up to {MAX_BYTES >> 20} MB; cut it first")
        return text_contents(str(path), _decoded(path))
    except OSError as fault:
        raise ConceptError(f"{path} cannot be read: {fault.strerror or fault}") from fault


def text_contents(source: str, text: str) -> Contents:
    """The contents of a text: JSON by its first character, CSV by a header of several columns, otherwise YAML."""
    start = text.lstrip()[:1]
    if not start:
        raise ConceptError(f"{source} is empty")
    try:
        if start == "[":
            return _listed(source, list(_json_array(source, text)))
        if start == "{":
            return _json_objects(source, text)
        if (delimiter := _delimiter(text)) is not None:
            return Contents(source, tuple(_limited(source, _csv(source, text, delimiter))))
    except RecursionError as fault:
        raise ConceptError(f"{source} is nested too deeply to be contrast data") from fault
    data = parsed_yaml(text, source, ConceptError)
    if isinstance(data, list):
        return _listed(source, [(f"entry {i}", value) for i, value in enumerate(data, 1)])
    if isinstance(data, dict):
        return Contents(source, mapping=data)
    raise ConceptError(
        f"{source} is neither JSON, CSV, Parquet nor a YAML mapping: it begins {text.lstrip()[:60]!r}. "
        "`steer concepts import --help` lists what is read"
    )


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConceptError(f"{path} is UTF-16: save it as UTF-8")
    line = start = 0
    while start < len(data):
        line += 1
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if end - start > MAX_LINE:
            raise ConceptError(
                f"{path}, line {line} has {(end - start) >> 20:,} MB: no line may exceed {MAX_LINE >> 20}"
            )
        start = end + 1
    if (zero := data.find(b"\0")) >= 0:
        where = data.count(b"\n", 0, zero) + 1
        raise ConceptError(f"{path}, line {where} holds a zero byte: it is no text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        where = data.count(b"\n", 0, fault.start) + 1
        shown = data[max(0, fault.start - 20) : fault.start + 20]
        raise ConceptError(f"{path}, line {where} is not UTF-8 (near {shown!r}): save the file as UTF-8") from fault


def _listed(source: str, entries: list[tuple[str, Any]]) -> Contents:
    """A list of objects as rows, or a list of strings."""
    if not entries:
        raise ConceptError(f"{source} is an empty list")
    if all(isinstance(value, str) for _, value in entries):
        return Contents(source, strings=tuple(value for _, value in entries))
    return Contents(source, tuple(_limited(source, (_row(source, *entry) for entry in entries))))


def _row(source: str, where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise ConceptError(
            f"{source}, {where} is {type(value).__name__}, not an object with named values: {value!r:.60}"
        )
    return Row(where, value)


def _limited(source: str, rows: Iterator[Row]) -> Iterator[Row]:
    for i, row in enumerate(rows):
        if i == MAX_ROWS:
            raise ConceptError(f"{source} has more than {MAX_ROWS:,} rows: draw a sample of it first")
        yield row


def _json_array(source: str, text: str) -> Iterator[tuple[str, Any]]:
    """Each entry of a JSON array with the line on which it begins."""
    decoder, line, seen = json.JSONDecoder(), 1, 0
    at = _skip(text, 0) + 1
    closed = text[_skip(text, at) : _skip(text, at) + 1] == "]"
    at = _skip(text, at) + closed
    while not closed:
        at = _skip(text, at)
        line, seen = line + text.count("\n", seen, at), at
        value, at = _decode(source, decoder, text, at)
        yield f"line {line}", value
        at = _skip(text, at)
        closed = text[at : at + 1] == "]"
        if not closed and text[at : at + 1] != ",":
            here = line + text.count("\n", seen, at)
            raise ConceptError(f"{source}, line {here}: the JSON list is cut off or lacks a comma here")
        at += 1
    if (rest := _skip(text, at)) < len(text):
        where = text.count("\n", 0, rest) + 1
        raise ConceptError(f"{source}, line {where}: there is more text after the JSON list")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _decode(source: str, decoder: json.JSONDecoder, text: str, at: int, line: int | None = None) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        where = f"line {line or fault.lineno}, column {fault.colno}"
        raise ConceptError(
            f"{source}, {where} is not JSON: {fault.msg} (cut off, or a quote or comma missing?)"
        ) from None
    except ValueError as fault:  # a number of thousands of digits
        raise ConceptError(
            f"{source}, line {line or text.count(chr(10), 0, at) + 1} is not usable JSON: {fault}"
        ) from None


def _json_objects(source: str, text: str) -> Contents:
    """One JSON object, or JSON lines where a second one follows."""
    decoder = json.JSONDecoder()
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    one_a_line = len(lines) > 1 and _is_object(lines[0][1]) and lines[1][1].lstrip().startswith("{")
    if not one_a_line:
        at = _skip(text, 0)
        value, end = _decode(source, decoder, text, at)
        if (rest := _skip(text, end)) < len(text):
            where = text.count("\n", 0, rest) + 1
            raise ConceptError(f"{source}, line {where}: there is more text after the JSON object")
        single = len(lines) == 1 and _looks_like_a_row(value)
        return Contents(source, (Row("line 1", value),)) if single else Contents(source, mapping=value)
    return Contents(source, tuple(_limited(source, _json_lines(source, lines, decoder))))


def _json_lines(source: str, lines: list[tuple[int, str]], decoder: json.JSONDecoder) -> Iterator[Row]:
    for number, line in lines:
        value, end = _decode(source, decoder, line, _skip(line, 0), number)
        if _skip(line, end) < len(line):
            raise ConceptError(f"{source}, line {number}: there is more text after the JSON object")
        yield _row(source, f"line {number}", value)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _looks_like_a_row(value: dict[str, Any]) -> bool:
    return all(not isinstance(v, list | dict) for v in value.values())


def _delimiter(text: str) -> str | None:
    """The delimiter of a CSV file whose first line names two columns or more; None where it is no CSV file."""
    header = text.lstrip().split("\n", 1)[0].strip()
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"') for name in header.split(delimiter)]
        if len(names) > 1 and all(name and len(name) < 80 and not set(name) & set(":{}[]#") for name in names):
            return delimiter
    return None


def _csv(source: str, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter, strict=True)
    skipped = text[: len(text) - len(text.lstrip())].count("\n")
    try:
        names = [name.strip() for name in next(reader)]
        if len(set(names)) < len(names):
            raise ConceptError(f"{source} names a column twice: {', '.join(names)}")
        begins = reader.line_num + 1
        for values in reader:
            where, begins = f"line {begins + skipped}", reader.line_num + 1
            if values and len(values) != len(names):
                raise ConceptError(
                    f"{source}, {where} has {len(values)} values for {len(names)} columns: quote the commas"
                )
            if values:
                yield Row(where, dict(zip(names, values, strict=True)))
    except csv.Error as fault:
        raise ConceptError(f"{source}, line {reader.line_num + skipped} is not CSV: {fault}") from fault


def _parquet(path: Path) -> Contents:
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ConceptError(
                    f"{path} has {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}: draw a sample first"
                )
            records = file.read().to_pylist()
    except (pa.ArrowException, OSError) as fault:
        raise ConceptError(f"{path} is damaged or no Parquet file: {fault}") from fault
    return Contents(str(path), tuple(Row(f"row {i}", record) for i, record in enumerate(records, 1)))
