"""Forward passes: prefill and fork a cache, score given tokens, decode new ones; every row under its own intervention.

Sequences are padded on the right, after their last token: in a causal model that changes no row.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.utils import tree_map

from steering_core.backend import mx, on_cpu
from steering_core.interventions.change import Intervention, first_position
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


@dataclass(frozen=True)
class Scored:
    """A sequence to score from `start` on, under an intervention that counts tokens before `start` as the prompt."""

    tokens: tuple[int, ...]
    start: int
    intervention: Intervention = Intervention()


def log_probabilities(model: Model, sequences: Sequence[Scored], work: Work, max_rows: int = 32) -> list[np.ndarray]:
    """Log-probability of each token from `start` on, in nats: for each sequence an array (n_tokens - start,) float32.

    Sequences with one prompt share its pass, where the interventions leave the prompt alone.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, sequence in enumerate(sequences):
        groups.setdefault(sequence.tokens[: sequence.start], []).append(i)
    results: list[np.ndarray] = [np.empty(0, np.float32)] * len(sequences)
    for stem, members in groups.items():
        for begin in range(0, len(members), max_rows):
            chunk = members[begin : begin + max_rows]
            for i, scores in zip(chunk, _score_group(model, stem, [sequences[i] for i in chunk], work), strict=True):
                results[i] = scores
    return results


def _score_group(model: Model, stem: tuple[int, ...], group: list[Scored], work: Work) -> list[np.ndarray]:
    interventions = [s.intervention for s in group]
    shared = int(min(first_position(interventions, len(stem)), len(stem) - 1))
    steering = Steering(interventions, [len(stem)] * len(group))
    cache = prefill(model, [stem[:shared]], [0] * len(group), work) if shared else None
    suffixes = [s.tokens[shared:] for s in group]
    longest = max(map(len, suffixes))
    tokens = np.zeros((len(group), longest), np.int32)
    for row, suffix in enumerate(suffixes):
        tokens[row, : len(suffix)] = suffix
    logits = forward(model, mx.array(tokens), cache, steering, shared)[:, len(stem) - 1 - shared : -1]
    work.add(*tokens.shape)
    targets = tokens[:, len(stem) - shared :]  # (B, longest answer)
    scores = log_softmax_at(logits, targets)
    return [scores[row, : len(s.tokens) - s.start] for row, s in enumerate(group)]


def log_softmax_at(logits: mx.array, targets: np.ndarray) -> np.ndarray:
    """Log-probability of `targets` (B, T) under `logits` (B, T, V), float32 (B, T)."""
    logits = logits.astype(mx.float32)
    if on_cpu():  # MLX's exp is scalar code there, NumPy's is not
        values = np.array(logits)
        at_target = np.take_along_axis(values, targets[..., None], axis=-1)[..., 0]
        return np.asarray(at_target - log_sum_exp(values), np.float32)
    chosen = mx.take_along_axis(logits, mx.array(targets)[..., None], axis=-1)[..., 0]
    return np.array(chosen - mx.logsumexp(logits, axis=-1))


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """log of the sum of exp over the last axis, (..., V) -> (...)."""
    top = values.max(axis=-1, keepdims=True)
    total: np.ndarray = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return total


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
