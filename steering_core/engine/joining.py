"""Rows that join a running batch: their caches, tokens and steering are appended to those of the batch.

mlx-lm's own batch caches hold rows of different lengths, right-justified; a batch whose rows all have one length keeps
the plain form until another row comes.
"""

from typing import Any

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.engine.forward import Batch, Cache, fork


def joined(batch: Batch, other: Batch) -> Batch:
    """The rows of `batch`, then those of `other`. The result takes over `batch`'s cache.

    The model's caches must take rows of different lengths.
    """
    caches = zip(mixed(batch.cache, len(batch)), mixed(other.cache, len(other)), strict=True)
    cache = [_extended(mine, its) for mine, its in caches]
    lengths = np.concatenate([batch.lengths, other.lengths])
    return Batch(cache, mx.concatenate([batch.last, other.last]), lengths, batch.steering + other.steering)


def mixed(cache: Cache, rows: int) -> Cache:
    """A cache of `rows` rows in mlx-lm's batch form, which takes rows of other lengths beside them."""
    return [entry if hasattr(entry, "extend") else _merged(entry, rows) for entry in cache]


def _merged(entry: Any, rows: int) -> Any:
    singles = [fork([entry], [row])[0] for row in range(rows)]
    return type(entry).merge(singles)


def _extended(mine: Any, its: Any) -> Any:
    mine.extend(its)
    return mine
