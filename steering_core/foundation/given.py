"""What Python hands over in place of a list: generators, arrays, the columns and frames of pandas and polars."""

from collections.abc import Iterable, Mapping
from typing import Any

_MISSING = ("NAType", "NaTType")  # pandas' own


def listed(given: Any) -> list[Any] | None:
    """The entries of any iterable that is no text and no mapping; None for what is none."""
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        return None
    return list(given)


def frame_rows(given: Any) -> list[dict[str, Any]] | None:
    """The rows of a frame of pandas, polars or Arrow as dictionaries; None for what is no frame."""
    names = getattr(given, "column_names", None) or getattr(given, "columns", None)
    if names is None or isinstance(given, type | Mapping) or not hasattr(given, "__getitem__"):
        return None
    values = [[_plain(value) for value in given[name]] for name in names]
    return [dict(zip(map(str, names), row, strict=True)) for row in zip(*values, strict=True)]


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, or what pandas has for either."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in _MISSING


def _plain(value: Any) -> Any:
    """The value; of an Arrow scalar what it holds."""
    return value.as_py() if hasattr(value, "as_py") else value
