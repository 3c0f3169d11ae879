"""Draws: the next token of every row from its logits, by the row's own recipe and seed.

A row's randomness is a stream of keys fixed by its seed alone (Philox), one a token. So its tokens depend neither on
its neighbours nor on how many tokens are asked for. A key gives every token of the vocabulary a random number, and the
largest sum of logit and Gumbel noise is drawn (Maddison et al. 2014). The logits of a row differ by rounding with its
batch, the BLAS and the processor. That changes a token only where the two largest sums are as close
(docs/decisions/0048-draws-that-hold.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.grammar import GrammarState
from steering_core.engine.recipes import NO_FILTERS, Processor, Recipe, filtered

DRAWS_VERSION = 2  # raised when a seed gives other tokens
_BLOCK = 64  # keys made at a time
_LEAST = np.float32(2.0**-33)  # in place of a random number of 0: half a step of the random numbers


LikelyToken = tuple[int, float]
"""A token and its log-probability."""


def likeliest_of(values: np.ndarray, count: int) -> tuple[LikelyToken, ...]:
    """The `count` likeliest tokens by their log-probabilities (V,), the likeliest first."""
    count = min(count, len(values))
    best = np.argpartition(-values, count - 1)[:count] if count else np.array([], int)
    best = best[np.argsort(-values[best], kind="stable")]
    return tuple((int(i), float(values[i])) for i in best)


@dataclass(frozen=True)
class DrawnTokens:
    """New tokens (B,), and the log-probabilities (B, V) that they were drawn from where a row reports them."""

    tokens: mx.array
    log_probabilities: mx.array | None


@dataclass
class _Row:
    """One row's recipe and state: its last tokens, its place in a grammar, its stream of keys."""

    recipe: Recipe
    keys: Iterator[np.ndarray]
    reports: bool
    recent: mx.array  # (T,) the last tokens, as many as its processors look at
    processors: list[Processor] = field(default_factory=list)
    grammar: GrammarState | None = None
    last: mx.array | None = None  # the token drawn last, (1,)

    @property
    def plain(self) -> bool:
        """Whether nothing changes the row's logits: no processors and no grammar."""
        return not self.processors and self.grammar is None

    def processed(self, logits: mx.array) -> mx.array:
        """The row's logits (1, V) after its processors and its grammar."""
        for processor in self.processors:
            logits = processor(self.recent, logits)
        if self.grammar:
            if self.last is not None:
                self.grammar.accept(int(np.array(self.last)[0]))
            logits = mx.where(mx.array(self.grammar.open())[None], logits, mx.array(-float("inf"), logits.dtype))
        return logits

    def saw(self, token: mx.array) -> None:
        """Count `token` (1,) among what was drawn."""
        self.last = token
        if self.processors:
            self.recent = mx.concatenate([self.recent, token.astype(mx.int32)])[-self.recipe.context :]


class Draws:
    """Next tokens of rows, each by its own recipe, seed and prompt.

    `reports` marks the rows that want log-probabilities.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        seeds: Sequence[int],
        prompts: Sequence[Sequence[int]],
        reports: Sequence[bool],
    ) -> None:
        self._rows = [
            _Row(recipe, random_keys(seed), tells, mx.array(list(prompt[-recipe.context :]), mx.int32),
                 recipe.processors(), recipe.grammar.state() if recipe.grammar else None)
            for recipe, seed, prompt, tells in zip(recipes, seeds, prompts, reports, strict=True)
        ]  # fmt: skip

    @property
    def lazy(self) -> bool:
        """Whether tokens are drawn without looking at logits, so that a pass over them can begin before they are known.

        A grammar looks at the token before, and a CPU samples in NumPy.
        """
        sampled = on_cpu() and any(row.recipe.temperature > 0 for row in self._rows)
        return not sampled and all(row.grammar is None for row in self._rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with those rows alone."""
        self._rows = [self._rows[row] for row in rows]

    def join(self, other: "Draws") -> None:
        """Append the rows of `other` to these rows."""
        self._rows += other._rows

    def __call__(self, logits: mx.array) -> DrawnTokens:
        """The next token of every row from logits (B, V); nothing is computed where these draws are `lazy`."""
        if not all(row.plain for row in self._rows):
            one_by_one = [row.processed(logits[i : i + 1]) for i, row in enumerate(self._rows)]
            logits = mx.concatenate(one_by_one)
        logs = None
        if any(row.reports for row in self._rows):
            logs = _log_softmax(logits)
        tokens = self._drawn(self._filtered(logits))
        for place, row in enumerate(self._rows):
            if not row.plain:
                row.saw(tokens[place : place + 1])
        return DrawnTokens(tokens, logs)

    def _filtered(self, logits: mx.array) -> mx.array:
        """The logits, with -inf for what each row's filters leave out; rows with the same filters together."""
        groups: dict[tuple[float, float, int], list[int]] = {}
        for place, row in enumerate(self._rows):
            groups.setdefault(row.recipe.filters, []).append(place)
        if set(groups) == {NO_FILTERS}:
            return logits
        parts = []
        for filters, places in groups.items():
            part = logits[mx.array(places)]
            parts.append(part if filters == NO_FILTERS else filtered(_log_softmax(part), filters).astype(part.dtype))
        order = np.argsort([place for places in groups.values() for place in places])
        return mx.concatenate(parts)[mx.array(order.astype(np.int32))]

    def _drawn(self, logits: mx.array) -> mx.array:
        temperatures = np.array([row.recipe.temperature for row in self._rows], np.float32)
        greedy = temperatures == 0
        if greedy.all():
            return mx.argmax(logits, axis=-1)
        keys = mx.array(np.stack([next(row.keys) for row in self._rows]))
        uniform = uniforms(keys, logits.shape[-1])
        temperatures = np.where(greedy, 1, temperatures)
        if on_cpu():  # MLX's logarithm is scalar code there, NumPy's is not
            values = np.array(logits.astype(mx.float32))
            drawn = sampled(values, temperatures, np.array(uniform))
            return mx.array(np.where(greedy, values.argmax(axis=-1), drawn) if greedy.any() else drawn)
        drawn_there = sampled_on_device(logits, mx.array(temperatures), uniform)
        return mx.where(mx.array(greedy), mx.argmax(logits, axis=-1), drawn_there) if greedy.any() else drawn_there


def drawn_at(temperature: float) -> float | list[float]:
    """A temperature as part of a text's key: with the version of the draws, which greedy texts do not hang on."""
    return [temperature, DRAWS_VERSION] if temperature > 0 else temperature


def random_keys(seed: int) -> Iterator[np.ndarray]:
    """The keys of a seed's random numbers, (2,) uint32, one a token."""
    stream = np.random.Generator(np.random.Philox(seed))
    while True:
        yield from stream.integers(0, 2**32, (_BLOCK, 2), np.uint32)


def uniforms(keys: mx.array, n: int) -> mx.array:
    """`n` random numbers in [0, 1) of each key, (B, 2) -> (B, n) float32: the words of Threefry as fractions."""
    return mx.vmap(lambda key: mx.random.uniform(shape=(n,), key=key))(keys)


def sampled(logits: np.ndarray, temperature: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """argmax over V of logits / temperature - log(-log(1 - uniform)), (B, V), (B,), (B, V) -> (B,) int32.

    Which token that is follows softmax(logits / temperature). `uniform` near 0, which decides, has the most digits.
    """
    noise = np.maximum(uniform, _LEAST)
    np.log1p(np.negative(noise, out=noise), out=noise)
    np.log(np.negative(noise, out=noise), out=noise)
    return np.argmax(logits / temperature[:, None] - noise, axis=-1).astype(np.int32)


def sampled_on_device(logits: mx.array, temperature: mx.array, uniform: mx.array) -> mx.array:
    """What `sampled` computes, lazily and in MLX: (B, V), (B,), (B, V) -> (B,)."""
    noise = mx.log(-mx.log1p(-mx.maximum(uniform, _LEAST.item())))
    return mx.argmax(logits.astype(mx.float32) / temperature[:, None] - noise, axis=-1)


def _log_softmax(logits: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)
