"""Mappings that hold rows: named lists, splits with rows, classes with data, and one row by itself."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from steering_core.concepts.concept import Split
from steering_core.concepts.formats.columns import found_columns
from steering_core.concepts.formats.contents import Contents, listed_contents
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import shown, written

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def as_rows(contents: Contents) -> Contents:
    """The contents with a mapping's rows as rows; as they are where the mapping holds none."""
    mapping = contents.mapping
    if not mapping:
        return contents
    readers = (_rows_of_splits, _rows_of_classes, _rows_of_lists, _one_row)
    found = (reader(contents.source, mapping) for reader in readers)
    return next((rows for rows in found if rows), contents)


def _rows_of_splits(source: str, mapping: Mapping[str, Any]) -> Contents | None:
    """`{train: […], test: […]}`: rows of which each keeps its split."""
    parts = {name: value for name, value in mapping.items() if str(name).lower() in SPLIT_NAMES}
    if not parts or not all(value and isinstance(value, list | dict) for value in parts.values()):
        return None
    rows: list[Record] = []
    notes: list[str] = []
    unpaired = False
    for name, value in parts.items():
        part = _part(f"{source}, {name}", value)
        unpaired |= part.unpaired
        split = SPLIT_NAMES[str(name).lower()]
        rows += [replace(row, where=f"{name}, {row.where}", split=split) for row in part.rows]
        notes += part.notes
    note = f"The file's splits are kept: {', '.join(map(str, parts))}."
    return Contents(source, tuple(rows), None, (), (note, *dict.fromkeys(notes), *_left_out(mapping, parts)), unpaired)


def _part(source: str, value: Any) -> Contents:
    if isinstance(value, list):
        return listed_contents(source, [(f"entry {i}", entry) for i, entry in enumerate(value, 1)])
    return _rows_of_lists(source, value) or Contents(source)


def _rows_of_classes(source: str, mapping: Mapping[str, Any]) -> Contents | None:
    """`{classes: [a, b], data: [[…, …], …]}`: rows with a column for each class."""
    names, data = mapping.get("classes"), mapping.get("data")
    if not (_is_texts(names) and len(set(names)) == len(names) > 1 and isinstance(data, list) and data):
        return None
    for i, values in enumerate(data, 1):
        if not isinstance(values, list) or len(values) != len(names):
            raise ConceptError(
                f"{source}: entry {i} of `data` must be a list of {len(names)} texts, one a class: {written(values)}"
            )
    rows = (Record(f"entry {i} of `data`", dict(zip(names, values, strict=True))) for i, values in enumerate(data, 1))
    return Contents(source, tuple(rows), notes=tuple(_left_out(mapping, ("classes", "data"))))


def _rows_of_lists(source: str, mapping: Mapping[str, Any]) -> Contents | None:
    """`{positive: […], negative: […]}`, or more lists of one length: texts at one index make a row.

    Two lists of different lengths are unpaired texts.
    """
    lists = {str(name): value for name, value in mapping.items() if _is_texts(value)}
    sizes = {name: len(texts) for name, texts in lists.items()}
    if len(lists) < 2 or (len(lists) > 2 and len(set(sizes.values())) > 1):
        return None
    unused = _left_out(mapping, lists)
    if len(set(sizes.values())) > 1:
        lone = (Record(f"{name}, text {i}", {name: text}) for name in lists for i, text in enumerate(lists[name], 1))
        return Contents(source, tuple(lone), notes=tuple(unused), unpaired=True)
    n = min(sizes.values())
    rows = (Record(f"place {i + 1} of the lists", {name: texts[i] for name, texts in lists.items()}) for i in range(n))
    note = ["The sides were lists: texts of one place make a pair, which need not belong together."]
    return Contents(source, tuple(rows), notes=(*note * (len(lists) == 2), *unused))


def _one_row(source: str, mapping: Mapping[str, Any]) -> Contents | None:
    """A mapping with the columns of a contrast: a file of one row."""
    return (
        Contents(source, (Record("line 1", dict(mapping)),)) if found_columns([str(name) for name in mapping]) else None
    )


def _is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _left_out(mapping: Mapping[str, Any], used: Any) -> list[str]:
    unused = [str(name) for name in mapping if name not in used]
    return [f"Keys left out: {', '.join(map(shown, unused))}."] if unused else []
