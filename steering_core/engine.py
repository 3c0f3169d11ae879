"""Forward passes: prefill and fork a cache, run tokens, draw new ones; every row under its own intervention."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx.utils import tree_map

from steering_core.backend import mx
from steering_core.interventions.steering import Steering
from steering_core.models import Model

Cache = list[Any]


@dataclass
class Work:
    """What forward passes cost."""

    forward_passes: int = 0
    tokens: int = 0

    def add(self, rows: int, length: int) -> None:
        """Count one pass over `rows` sequences of `length` tokens."""
        self.forward_passes += 1
        self.tokens += rows * length


def forward(model: Model, tokens: mx.array, cache: Cache | None, steering: Steering | None, offset: int) -> mx.array:
    """Logits (B, T, V) of tokens (B, T) that stand at positions offset .. offset + T - 1, lazily."""
    edits = steering.edits(offset, tokens.shape[1]) if steering else {}
    with model.taps.applied(edits):
        logits: mx.array = model.network(tokens, cache=cache)
    return logits


def fork(cache: Cache, rows: Sequence[int]) -> Cache:
    """A cache whose row i is row `rows[i]` of `cache`, which stays as it is. Works for every cache of mlx-lm."""
    index = mx.array(list(rows))

    def taken(leaf: Any) -> Any:
        return leaf[index] if isinstance(leaf, mx.array) and leaf.ndim else leaf

    forked = []
    for entry in cache:
        new = copy.copy(entry)
        state = entry.state
        if type(entry).__name__ == "KVCache" and entry.keys is not None:  # without the room kept for growth
            state = (*entry.keys_and_values(), entry.offset)
        new.state = tree_map(taken, state)
        forked.append(new)
    return forked


def cache_arrays(cache: Cache) -> list[mx.array]:
    """The arrays of a cache, for evaluation."""
    arrays: list[mx.array] = []
    tree_map(lambda leaf: arrays.append(leaf) if isinstance(leaf, mx.array) else None, [c.state for c in cache])
    return arrays


def prefill(model: Model, prefixes: Sequence[Sequence[int]], rows: Sequence[int], work: Work) -> Cache:
    """A cache of len(rows) rows, row i after `prefixes[rows[i]]`, each run once. Prefixes are of one length."""
    cache = model.new_cache()
    if prefixes[0]:
        forward(model, mx.array([list(prefix) for prefix in prefixes]), cache, None, 0)
        mx.eval(cache_arrays(cache))
        work.add(len(prefixes), len(prefixes[0]))
        cache = fork(cache, rows)
    return cache


Sampler = Callable[[mx.array, int], mx.array]
"""Next tokens (B,) from logits (B, V) at a step."""


def sampler(temperature: float, seeds: Sequence[int]) -> Sampler:
    """Greedy at temperature 0; otherwise each row draws with its own key, from its seed and the step alone."""
    if temperature == 0:
        return lambda logits, step: mx.argmax(logits, axis=-1)
    keys = mx.stack([mx.random.key(seed) for seed in seeds])  # (B, 2)

    def draw(logits: mx.array, step: int) -> mx.array:
        at_step = mx.vmap(lambda key: mx.random.uniform(key=key + step))(keys)  # (B,)
        cumulative = mx.cumsum(mx.softmax(logits.astype(mx.float32) / temperature, axis=-1), axis=-1)
        drawn = (cumulative <= (at_step[:, None] * cumulative[:, -1:])).sum(axis=-1)
        return mx.minimum(drawn, logits.shape[-1] - 1)

    return draw
