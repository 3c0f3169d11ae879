"""What sequences of anything share: tokens, letters, messages."""

from collections.abc import Sequence
from typing import Any, TypeVar

Element = TypeVar("Element")


def common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many elements both begin with."""
    shorter = min(len(a), len(b))
    return next((i for i in range(shorter) if a[i] != b[i]), shorter)


def repeated(values: Sequence[Element]) -> list[Element]:
    """The elements that stand earlier in the sequence as well, in their order."""
    return [value for i, value in enumerate(values) if value in values[:i]]
