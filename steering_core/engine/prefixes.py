"""`Prefixes`: what a model has read before, so that the next turn of a conversation reads only what is new.

A cache of keys and values stands for tokens *as they were steered*: at each position the token, and the changes that
acted there, with their strengths. Two texts share a prefix as far as both agree, so that a text that goes on from a
cache is what it would be if it were read anew. After `@generation` that is all up to the answer, which the next turn
reads unsteered, as the answer is then part of the prompt; without steering, or with `@all` or `@response`, it is
everything. mlx-lm's own cache of prompts holds them, drops the one that was used longest ago, and cuts a longer one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.engine.forward import Cache, cache_arrays, fork, has_spare_room, labels
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.turns import labelled
from steering_core.models import Model

SHARE = 0.25  # of the memory beside the weights, at most
MOST = 64  # texts

Mark = Any  # int | tuple[int, tuple[tuple[bytes, float], ...]], which mlx-lm's trie takes, though it says int
"""A token, with the changes that act at its position where any do."""

_TO_COME: Mark = "the last token"
"""Stands at the end of what is looked up. No kept text holds it, so that the last token is never found in a cache."""


class Prefixes:
    """The caches of one model's latest texts, within a share of the model's memory. For the model's own thread."""

    def __init__(self, model: Model) -> None:
        from steering_core.models.mlx_lm import LRUPromptCache

        self._model = model
        room = model.memory.limit - model.memory.footprint.weights
        self._kept = LRUPromptCache(MOST, max(0, int(SHARE * room)))

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self._kept.nbytes)

    def found(self, tokens: Sequence[int], intervention: Intervention) -> tuple[Cache, int] | None:
        """A cache of a prompt's first tokens, the caller's own, and how many they are; the last token is never in it.

        None where no prefix of the prompt is kept.
        """
        wanted = [*marks(tokens, len(tokens), intervention)[:-1], _TO_COME]
        cache, rest = self._kept.fetch_nearest_cache(self._model.identity.model_id, wanted)
        known = len(wanted) - len(rest)
        return (cache, known) if cache is not None and known else None

    def keep(self, tokens: Sequence[int], prompt_length: int, intervention: Intervention, cache: Cache) -> None:
        """Keep the cache (of one row) of `tokens`, the first `prompt_length` of which were the prompt."""
        intervention = labelled(intervention, tokens, lambda some: labels(self._model, some))
        self._kept.insert_cache(
            self._model.identity.model_id, marks(tokens, prompt_length, intervention), cache, cache_type="assistant"
        )

    def clear(self) -> None:
        """Give all memory back."""
        self._kept.trim_to(n_sequences=0)


def marks(tokens: Sequence[int], prompt_length: int, intervention: Intervention) -> list[Mark]:
    """What stands at each position: the token, and what acts on it, in order."""
    positions = np.arange(len(tokens))
    acting = [
        (_digest(change), change.where.gate(positions, prompt_length))
        for change in intervention.changes
        if change.amount or change.operation != "add"
    ]
    found: list[Mark] = list(tokens)
    for position in np.flatnonzero(np.any([gate != 0 for _, gate in acting], axis=0)).tolist() if acting else ():
        here = tuple((digest, float(gate[position])) for digest, gate in acting if gate[position])
        found[position] = (tokens[position], here)
    return found


def _digest(change: Change) -> bytes:
    """A digest of what a change does, whatever its place."""
    condition = change.condition
    parts: list[Any] = [change.layer, change.direction.tobytes(), change.amount, change.operation]
    if condition:
        parts += [condition.layer, condition.direction.tobytes(), condition.threshold, condition.above]
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).digest()


def row_of(cache: Cache, place: int) -> Cache:
    """The cache of one row of a batch, computed, and as long as the row."""
    single = [_single(entry, place) for entry in cache]
    mx.eval(cache_arrays(single))
    return single


def _single(entry: Any, place: int) -> Any:
    if hasattr(entry, "extract") and not hasattr(entry, "caches"):
        return entry.extract(place)
    if hasattr(entry, "caches"):
        (new,) = fork([entry], [0])
        new.caches = [_single(inner, place) for inner in entry.caches]
        return new
    (row,) = fork([entry], [place])
    if has_spare_room(row) and row.keys is not None:
        keys, values = row.keys_and_values()
        row.state = (mx.contiguous(keys), mx.contiguous(values), row.offset)
    return row
