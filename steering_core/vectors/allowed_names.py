"""Names: what vectors may be called, which is told from a key and from a number."""

import re

from steering_core.foundation.errors import VectorError

KEY = re.compile(r"[0-9a-f]{6,20}")  # a key, or its beginning
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def may_be_a_name(text: str) -> bool:
    """Whether vectors can be called so: a to z, digits, `_`, `.` and `-`, and neither a number nor like a key."""
    return bool(_NAME.fullmatch(text)) and not KEY.fullmatch(text) and not text.isdecimal()


def check_allowed(name: str) -> None:
    """Raise VectorError for what vectors cannot be called."""
    if not isinstance(name, str) or not may_be_a_name(name):
        raise VectorError(
            f"{name!r} cannot be a vector's name: letters from a to z, digits, '_', '.', '-', a letter or digit "
            "first, and neither a number nor like a key"
        )
