"""Sizes of memory as people write them: 12GiB, 900 MB."""

import re

from steering_core.foundation.errors import SettingError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str, where: str) -> int:
    """Bytes of a size such as 12GiB, 900 MB or 8e9; units count in powers of 1,024.

    Raises SettingError, naming `where` it stands, for anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e\d\d?)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    size = float(found[1]) * _UNITS[found[2].lower()] if found else 0.0
    if not 1 <= size < 1e18:
        raise SettingError(f"{where} says {text!r}, which is no size of memory: write one such as 12GiB or 900MB")
    return int(size)


def shown_size(size: float) -> str:
    """A size for people, such as 4.2 GiB."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit / 10:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1024:.1f} KiB"
