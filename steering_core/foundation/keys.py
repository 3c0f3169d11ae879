"""Content keys: what something is called is a hash of what made it."""

import hashlib
import json
from pathlib import Path
from typing import Any

KEY_LENGTH = 20  # hexadecimal digits, 80 bits
MAX_SEED = 2**32 - 1  # of what people choose and `seed_from` gives


def content_key(*parts: Any) -> str:
    """Key of JSON-like parts: the same parts give the same 20 hexadecimal digits on every machine.

    Floats count with the digits that `repr` gives, mappings without regard to their order.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=KEY_LENGTH // 2).hexdigest()


def file_sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_fraction(*parts: Any) -> float:
    """A number in [0, 1) fixed by the parts alone; spreads evenly. Splits are drawn with it."""
    return int(content_key(*parts)[:13], 16) / 16**13


def seed_from(*parts: Any) -> int:
    """A 32-bit seed fixed by the parts alone."""
    return int(content_key(*parts)[:8], 16)
