"""`Contents`: a file as rows with their places, or as one mapping; what it is, its first bytes say.

JSON, JSON lines, CSV (comma, semicolon or tab), Parquet and YAML. Whatever is wrong with a file is a ConceptError that
names the line.
"""

import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.concepts.concept import MAX_ROWS
from steering_core.concepts.formats.json_text import is_json_lines, json_array, json_lines, json_object
from steering_core.concepts.formats.tables import (
    KNOWN_COLUMNS,
    MAX_LINE,
    Record,
    check_names,
    delimiter_of,
    first_line,
    table_rows,
    without_blank_lines,
)
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.user_files import file_bytes
from steering_core.foundation.validation import parsed_yaml, shortened, written

MAX_BYTES = 256 << 20  # of a file, and of a Parquet file when unpacked
_YAML_START = re.compile(r"""\s*(---|%|\#|-\s|[&*?!'"]|[^\s:][^:\n]{0,200}:(\s|$))""")
_NO_DELIMITER = "\x1f"  # a letter that no text holds
_ARCHIVES = {
    b"PK\x03\x04": "a ZIP archive or an Excel file: unpack it, or save the sheet as CSV",
    b"BZh": "packed by bzip2: unpack it first (bunzip2)",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it first (unzstd)",
    b"\xfd7zXZ": "packed by xz: unpack it first (unxz)",
}
_BATCH = 16  # rows of a Parquet file unpacked at once


@dataclass(frozen=True)
class Contents:
    """What a file holds: `rows`, or one `mapping`, or a list of plain `strings`. `source` names it in errors.

    `notes` are sentences on how it was read, for the concept's card. Where it is `unpaired`, the texts of one row do
    not belong together, and most rows have one side alone. `n_read` is how many rows the file has where each of
    `rows` was made of several; 0 where they are its own.
    """

    source: str
    rows: tuple[Record, ...] = ()
    mapping: Mapping[str, Any] | None = None
    strings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unpaired: bool = False
    n_read: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the rows' values, in the order in which they first occur."""
        return tuple(dict.fromkeys(str(name) for row in self.rows for name in row.values))


def read_contents(path: Path, lines: bool = False) -> Contents:
    """The contents of a file; with `lines`, a text that is no list or known table as its lines.

    Raises ConceptError where it cannot be read as any form.
    """
    data = _unpacked(path, file_bytes(path, ConceptError, MAX_BYTES))
    if data.startswith(b"PAR1"):
        return _parquet(path, data)
    text = _decoded(path, data)
    if lines and first_line(text).strip().lower() in KNOWN_COLUMNS:  # a table of one column, which needs no delimiter
        return Contents(str(path), tuple(_limited(str(path), table_rows(str(path), text, _NO_DELIMITER))))
    return plain_lines(str(path), text) if lines and _is_plain(text) else text_contents(str(path), text)


def _is_plain(text: str) -> bool:
    """Whether a text is one of lines: it neither begins as JSON or a YAML list, nor with a header of known columns."""
    first = first_line(text).lstrip()
    names = {name.strip().strip('"').lower() for name in re.split("[,;\t]", first)}
    return bool(first.strip()) and not (first[0] in "[{" or first.startswith(("- ", "---")) or names & KNOWN_COLUMNS)


def plain_lines(source: str, text: str) -> Contents:
    """The lines of a text that hold anything."""
    lines = (line.strip() for line in io.StringIO(text) if line.strip())
    return Contents(source, strings=tuple(itertools.islice(lines, MAX_ROWS + 1)))


def text_contents(source: str, text: str) -> Contents:
    """The contents of a text: JSON by its first character, CSV by a header of several columns, YAML or plain lines."""
    start = text.lstrip()[:1]
    if not start:
        raise ConceptError(f"{source} is empty")
    try:
        if start == "[":
            return listed_contents(source, list(itertools.islice(json_array(source, text), MAX_ROWS + 1)))
        if start == "{":
            return _json_objects(source, text)
        if (delimiter := delimiter_of(text)) is not None:
            return Contents(source, tuple(_limited(source, table_rows(source, text, delimiter))))
    except RecursionError as fault:
        raise ConceptError(f"{source} is nested too deeply to be contrast data") from fault
    if not _YAML_START.match(without_blank_lines(text)):
        return plain_lines(source, text)
    data = parsed_yaml(text, source, ConceptError)
    if isinstance(data, list):
        return listed_contents(source, [(f"entry {i}", value) for i, value in enumerate(data, 1)])
    if isinstance(data, dict):
        return Contents(source, mapping=data)
    raise ConceptError(
        f"{source} is neither JSON, CSV, Parquet nor a YAML mapping: it begins {shortened(text.lstrip(), 60)!r}. "
        "`steer concepts import --help` lists what is read"
    )


def _unpacked(path: Path, data: bytes) -> bytes:
    """The bytes, or what they hold where they are gzip. Raises ConceptError for other archives."""
    if archive := next((name for magic, name in _ARCHIVES.items() if data.startswith(magic)), None):
        raise ConceptError(f"{path} is {archive}")
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise ConceptError(f"{path} is damaged gzip: {fault}") from fault
    if len(found) > MAX_BYTES:
        raise ConceptError(f"{path} unpacks to over {MAX_BYTES >> 20} MB: cut it first")
    return found


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise ConceptError(f"{path} is UTF-32: save it as UTF-8")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConceptError(f"{path} is UTF-16: save it as UTF-8")
    _check_lines(path, data)
    if (zero := data.find(b"\0")) >= 0:
        where = data.count(b"\n", 0, zero) + 1
        raise ConceptError(f"{path}, line {where} holds a zero byte: it is no text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        where = data.count(b"\n", 0, fault.start) + 1
        shown = data[max(0, fault.start - 20) : fault.start + 20]
        raise ConceptError(f"{path}, line {where} is not UTF-8 (near {shown!r}): save the file as UTF-8") from fault


def _check_lines(path: Path, data: bytes) -> None:
    """Raise ConceptError where a line is longer than MAX_LINE bytes, from one line break in every such stretch."""
    start = 0
    while len(data) - start > MAX_LINE:
        last = data.rfind(b"\n", start, start + MAX_LINE + 1)
        if last < 0:
            end = data.find(b"\n", start)
            size = (len(data) if end < 0 else end) - start
            line = data.count(b"\n", 0, start) + 1
            raise ConceptError(f"{path}, line {line} has {size >> 20:,} MB: no line may exceed {MAX_LINE >> 20}")
        start = last + 1


def listed_contents(source: str, entries: list[tuple[str, Any]]) -> Contents:
    """A list of objects, or of two texts each, as rows, or a list of strings. Raises ConceptError for any other."""
    if not entries:
        raise ConceptError(f"{source} is an empty list")
    if all(_is_pair(value) for _, value in entries):
        rows = (Record(where, {"positive": value[0], "negative": value[1]}) for where, value in entries)
        return Contents(source, tuple(_limited(source, rows)), notes=("Of two texts the first is the positive side.",))
    if all(isinstance(value, str) for _, value in entries):
        return Contents(source, strings=tuple(value for _, value in entries))
    return Contents(source, tuple(_limited(source, (_row(source, *entry) for entry in entries))))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _row(source: str, where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise ConceptError(f"{source}, {where} is no object with named values: {written(value)}")
    return Record(where, value)


def _limited(source: str, rows: Iterator[Record]) -> Iterator[Record]:
    for i, row in enumerate(rows):
        if i == MAX_ROWS:
            raise ConceptError(f"{source} has more than {MAX_ROWS:,} rows: draw a sample of it first")
        yield row


def _json_objects(source: str, text: str) -> Contents:
    """JSON lines as rows; one object as a row where its values are plain and it stands on one line, else a mapping."""
    if is_json_lines(text):
        return Contents(source, tuple(_limited(source, (_row(source, *entry) for entry in json_lines(source, text)))))
    value = json_object(source, text)
    single = "\n" not in text.strip() and _looks_like_a_row(value)
    return Contents(source, (Record("line 1", value),)) if single else Contents(source, mapping=value)


def _looks_like_a_row(value: dict[str, Any]) -> bool:
    return bool(value) and all(not isinstance(v, list | dict) for v in value.values())


def _parquet(path: Path, data: bytes) -> Contents:
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            check_names(str(path), file.schema_arrow.names)
            if file.metadata.num_rows > MAX_ROWS:
                raise ConceptError(
                    f"{path} has {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}: draw a sample first"
                )
            records = list(_parquet_records(path, file))
    except (pa.ArrowException, OSError) as fault:
        raise ConceptError(f"{path} is damaged or no Parquet file: {fault}") from fault
    except (ValueError, OverflowError) as fault:  # a text that is not UTF-8, a date that is none
        raise ConceptError(f"{path} holds a value that cannot be read: {fault}") from fault
    return Contents(str(path), tuple(Record(f"row {i}", record) for i, record in enumerate(records, 1)))


def _parquet_records(path: Path, file: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    """The rows as mappings. Raises ConceptError where they unpack to more than MAX_BYTES."""
    unpacked = 0
    for batch in file.iter_batches(_BATCH):
        unpacked += batch.nbytes
        if unpacked > MAX_BYTES:
            raise ConceptError(f"{path} unpacks to over {MAX_BYTES >> 20} MB: cut it first")
        yield from batch.to_pylist()
