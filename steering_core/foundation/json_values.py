"""Values as JSON has them."""

import datetime
import decimal
import math
from typing import Any

_MICROSECOND, _HOUR = 1_000, 3_600 * 10**9  # nanoseconds


def plain(value: Any) -> Any:
    """A value as JSON has it: decimals as numbers, times and bytes as text, and null for inf and nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if hasattr(value, "nanoseconds"):  # Arrow's interval, a tuple
        return shown_interval(value.months, value.days, value.nanoseconds)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | bool):
        return value
    return shown_bytes(value) if isinstance(value, bytes) else str(value)


def shown_bytes(value: bytes) -> str:
    r"""Bytes as DuckDB writes a blob: ASCII that prints as it is, and all else as \xAA."""
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'\"" else f"\\x{b:02X}" for b in value)


def shown_interval(months: int, days: int, nanoseconds: int) -> str:
    """A span of time in DuckDB's words: 1 year 2 months 3 days 04:05:06.5."""
    sign = -1 if months < 0 else 1
    counts = ((sign * (abs(months) // 12), "year"), (sign * (abs(months) % 12), "month"), (days, "day"))
    words = [f"{count} {unit}{'s' * (abs(count) != 1)}" for count, unit in counts if count]
    if nanoseconds or not words:
        hours, rest = divmod(abs(nanoseconds), _HOUR)
        seconds, fraction = divmod(rest // _MICROSECOND, 10**6)
        minutes, seconds = divmod(seconds, 60)
        parts = f".{fraction:06d}".rstrip("0") if fraction else ""
        words.append(f"{'-' * (nanoseconds < 0)}{hours:02d}:{minutes:02d}:{seconds:02d}{parts}")
    return " ".join(words)


def _number(value: decimal.Decimal) -> int | float | None:
    """A decimal as a number, whole where it has no places after the point."""
    if not value.is_finite():
        return None
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
