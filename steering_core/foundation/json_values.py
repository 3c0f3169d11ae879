"""Values as JSON has them."""

import datetime
import math
from typing import Any


def plain(value: Any) -> Any:
    """A value as JSON has it: times as text, and null for inf and nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
