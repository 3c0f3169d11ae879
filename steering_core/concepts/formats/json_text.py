"""JSON in files: a list, one object, or an object a line; whatever is wrong is a ConceptError that names the line."""

import io
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import shown

_SPACE = re.compile(r"[ \t\r\n]*")


def json_array(source: str, text: str) -> Iterator[tuple[str, Any]]:
    """Each entry of a JSON array, with the line on which it begins, and its number where others begin there too."""
    line, seen, before, number = 1, 0, 0, 0
    at = _skip(text, 0) + 1
    closed = text[_skip(text, at) : _skip(text, at) + 1] == "]"
    at = _skip(text, at) + closed
    while not closed:
        at = _skip(text, at)
        line, seen = line + text.count("\n", seen, at), at
        value, at = _decoded(source, text, at)
        number += 1
        yield (f"line {line}, entry {number}" if line == before else f"line {line}"), value
        before = line
        at = _skip(text, at)
        closed = text[at : at + 1] == "]"
        if not closed and text[at : at + 1] != ",":
            here = line + text.count("\n", seen, at)
            raise ConceptError(f"{source}, line {here}: the JSON list is cut off or lacks a comma here")
        at += 1
    if (rest := _skip(text, at)) < len(text):
        where = text.count("\n", 0, rest) + 1
        raise ConceptError(f"{source}, line {where}: there is more text after the JSON list")


def json_object(source: str, text: str) -> Any:
    """The one value of a text."""
    value, end = _decoded(source, text, _skip(text, 0))
    if (rest := _skip(text, end)) < len(text):
        where = text.count("\n", 0, rest) + 1
        raise ConceptError(f"{source}, line {where}: there is more text after the JSON object")
    return value


def json_lines(source: str, text: str) -> Iterator[tuple[str, Any]]:
    """The value of each line that holds anything, with that line."""
    for number, line in _lines(text):
        value, end = _decoded(source, line, _skip(line, 0), number)
        if _skip(line, end) < len(line):
            raise ConceptError(f"{source}, line {number}: there is more text after the JSON object")
        yield f"line {number}", value


def is_json_lines(text: str) -> bool:
    """Whether the first line is a whole object, and more lines follow."""
    first, *more = itertools.islice(_lines(text), 2)
    try:
        return bool(more) and isinstance(json.loads(first[1]), dict)
    except (ValueError, RecursionError):
        return False


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that holds anything."""
    return ((i, line) for i, line in enumerate(io.StringIO(text, newline="\n"), 1) if line.strip())


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too


def _unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a name that stands twice, of which json would keep the last value."""
    found = dict(entries)
    if len(found) < len(entries):
        names = [name for name, _ in entries]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _decoded(source: str, text: str, at: int, line: int | None = None) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        where = f"line {line or fault.lineno}, column {fault.colno}"
        raise ConceptError(
            f"{source}, {where} is not JSON: {fault.msg} (cut off, or a quote or comma missing?)"
        ) from None
    except ValueError as fault:  # a number of thousands of digits, or a name twice
        raise ConceptError(
            f"{source}, line {line or text.count(chr(10), 0, at) + 1} is not usable JSON: {fault}"
        ) from None
