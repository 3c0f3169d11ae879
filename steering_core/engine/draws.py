"""Draws: the next token of every row from its logits, greedy or sampled with a seed of the row's own.

A row's randomness is a stream of uniform numbers fixed by its seed alone (Philox), one a step. So its tokens depend
neither on its neighbours nor on how many tokens are asked for.
"""

from collections.abc import Sequence

import numpy as np

from steering_core.backend.mlx import mx, on_cpu

_BLOCK = 64  # uniform numbers made at a time


class Draws:
    """Next tokens for rows with these seeds: greedy at temperature 0, else drawn from softmax(logits / temperature)."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._streams = [np.random.Generator(np.random.Philox(seed)) for seed in seeds] if temperature else []
        self._uniform = np.empty((len(seeds), 0))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with those rows alone."""
        if self._streams:
            self._streams = [self._streams[row] for row in rows]
        self._uniform = self._uniform[list(rows)]

    def __call__(self, logits: mx.array, step: int) -> mx.array:
        """Token ids (B,) at a step (0, 1, …) from logits (B, V). Lazy, but for sampling on a CPU."""
        if not self._temperature:
            return mx.argmax(logits, axis=-1)
        uniform = self._uniform_at(step)
        if on_cpu():  # MLX's exp is scalar code there, NumPy's is not
            return mx.array(sampled(np.array(logits.astype(mx.float32)), self._temperature, uniform))
        return sampled_on_device(logits, self._temperature, mx.array(uniform.astype(np.float32)))

    def _uniform_at(self, step: int) -> np.ndarray:
        while self._uniform.shape[1] <= step:
            block = np.stack([stream.random(_BLOCK) for stream in self._streams])  # (B, block)
            self._uniform = np.concatenate([self._uniform, block], axis=1)
        column: np.ndarray = self._uniform[:, step]
        return column


def sampled(logits: np.ndarray, temperature: float, uniform: np.ndarray) -> np.ndarray:
    """The token at which the cumulative probability passes each row's number, (B, V), (B,) -> (B,) int32."""
    weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / np.float32(temperature))
    cumulative = np.cumsum(weights, axis=-1, dtype=np.float64)  # (B, V)
    places = [np.searchsorted(c, u * c[-1], side="right") for c, u in zip(cumulative, uniform, strict=True)]
    return np.minimum(places, logits.shape[-1] - 1).astype(np.int32)


def sampled_on_device(logits: mx.array, temperature: float, uniform: mx.array) -> mx.array:
    """The same, lazily, (B, V), (B,) -> (B,)."""
    cumulative = mx.cumsum(mx.softmax(logits.astype(mx.float32) / temperature, axis=-1), axis=-1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=-1)
    return mx.minimum(drawn, logits.shape[-1] - 1)
