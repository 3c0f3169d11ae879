"""`Remembered`: what passes of a model computed and later passes want again, within a share of the model's memory."""

from collections.abc import Hashable
from typing import Any

from cachetools import LRUCache

SHARE = 1 / 16  # of the memory beside the weights, at most
MOST = 512 << 20  # bytes: with more, a run of one concept computes nothing less


class Remembered:
    """Values by key, of at most `most` bytes together; what was used longest ago goes first.

    A value must follow from its key and the model's weights alone, so that asking is as good as computing.
    """

    def __init__(self, most: int) -> None:
        self._sized: LRUCache[Hashable, tuple[Any, int]] = LRUCache(max(1, most), getsizeof=lambda kept: kept[1])

    @classmethod
    def beside(cls, weights: int, limit: int) -> "Remembered":
        """An empty one, for a process that holds at most `limit` bytes, `weights` of them for the weights."""
        return cls(min(MOST, int(SHARE * (limit - weights))))

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self._sized.currsize)

    def found(self, key: Hashable) -> Any | None:
        """The value of a key; None where it is not there, or no longer."""
        kept = self._sized.get(key)
        return kept[0] if kept else None

    def keep(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Hold on to a value that takes so many bytes; one that alone is too large is not held."""
        self._sized.pop(key, None)
        if nbytes <= self._sized.maxsize:
            self._sized[key] = (value, nbytes)

    def clear(self) -> None:
        """Give all memory back."""
        self._sized.clear()
