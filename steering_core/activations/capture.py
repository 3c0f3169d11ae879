"""Capture: run planned passes and hand out each prompt's activations as its last pass ends.

A prompt's tokens may be spread over several passes: each pass sums the tokens that its readers want, and sums and
counts meet in the last one. Blocks after the last wanted one, and the vocabulary projection, are never computed: MLX is
lazy and nothing asks for their values.
"""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from steering_core.activations.passes import Cost, Pass
from steering_core.activations.positions import tokens_normed, tokens_read
from steering_core.activations.reductions import in_own_buffer, norms_of, weighted_sums
from steering_core.activations.sites import POSITIONS, SITE
from steering_core.activations.watch import watching
from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.forward import Cache, cache_arrays, fork, growing_by
from steering_core.engine.lanes import lanes, together
from steering_core.engine.pace import paced
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged
from steering_core.models import Model
from steering_core.models.taps import Look
from steering_core.prompts import Prompt


@dataclass(frozen=True)
class Reading:
    """What is read of every prompt: at which layers, position and site."""

    layers: tuple[int, ...]
    position: str
    site: str = SITE

    @property
    def streams(self) -> int:
        """How many layers' streams, of one pass's tokens, are held at once.

        A CPU holds every layer's until the pass ends. A GPU holds none, but with position `all` those of three passes:
        one runs, one is copied to NumPy, and one is handed out.
        """
        if on_cpu():
            return len(self.layers)
        return 3 * len(self.layers) if self.position == "all" else 0


def cost_here(model: Model, reading: Reading) -> Cost:
    """What passes of `model` that read this cost on this machine's device, and how much one may hold."""
    memory, n = model.memory, lanes()
    room = memory.room("capture")

    def fits(rows: int, length: int, deepest: int) -> bool:
        """Whether that many passes of this size, one in each lane, fit into the room."""
        return _peak([(rows, length, deepest)] * n, model, reading) <= room

    habits = memory.habits
    mixed = model.abilities.mixed and on_cpu()
    return Cost(habits.extraction, habits.cached, habits.overhead, n, mixed, fits)


def peak_of(model: Model, reading: Reading, passes: Sequence[Pass]) -> int:
    """Bytes that passes side by side take."""
    return _peak([(len(p.parents), p.length, p.deepest) for p in passes], model, reading)


def peak_of_all(model: Model, reading: Reading, passes: Sequence[Pass]) -> int:
    """Bytes that the `lanes()` largest of these passes, and of those that continue them, take side by side."""
    every = [p for root in passes for p in root.walk()]
    return peak_of(model, reading, sorted(every, key=lambda p: peak_of(model, reading, [p]))[-lanes() :])


def _peak(passes: Sequence[tuple[int, int, int]], model: Model, reading: Reading) -> int:
    """Bytes that passes side by side take, each given as its rows, tokens of a row, and the token where it ends.

    The sum of the passes' peaks, with two corrections. A pass that continues another also holds its own copy of the
    parent's cache. Temporaries are counted once, as MLX has as many operations under way for several passes as for one.
    """
    memory = model.memory
    one_pass = memory.footprint.token * min(rows * length for rows, length, _ in passes)
    each = [
        memory.peak(rows, length, deepest, reading.streams)
        + (deepest > length) * rows * deepest * memory.footprint.cached
        for rows, length, deepest in passes
    ]
    return sum(each) - (len(each) - 1) * one_pass


@dataclass(frozen=True)
class Captured:
    """Activations of the prompts `rows`, float32: values (N, L, D) and mean residual norms (N, L).

    With position `all` there is one prompt, and N is its tokens.
    """

    rows: tuple[int, ...]
    values: np.ndarray
    residual_norms: np.ndarray


@dataclass(frozen=True)
class _Part:
    """What one pass finds, evaluated when NumPy asks: sums (B, K, L, D) for K choices of tokens a row, norms (B, L).

    A choice is a set of a row's tokens that some reader sums over; `places` tells each reader's row and choice.
    `lengths` are the tokens of each row. With position `all` the choices are the pass's tokens; norms are (B, T, L).
    """

    lazy_sums: mx.array
    lazy_norms: mx.array
    places: dict[int, tuple[int, int]]
    lengths: tuple[int, ...]

    @cached_property
    def sums(self) -> np.ndarray:
        """The sums; waits for them."""
        return np.asarray(self.lazy_sums)

    @cached_property
    def norms(self) -> np.ndarray:
        """The sums of norms; waits for them."""
        return np.asarray(self.lazy_norms)


@dataclass(frozen=True)
class _Ready:
    """A pass that can start: its parent's cache, and the parts of the passes before it."""

    passed: Pass
    parent: Cache | None = None
    path: tuple[_Part, ...] = ()


@dataclass(frozen=True)
class _Underway:
    """A pass that was started: its part, the cache for its children, and the arrays to compute."""

    part: _Part
    cache: Cache | None
    arrays: list[mx.array]


class Capture:
    """Runs passes over `prompts` on `model`; `work` counts them."""

    def __init__(self, model: Model, prompts: Sequence[Prompt], reading: Reading, work: Work) -> None:
        self.model, self.prompts, self.reading, self.work = model, prompts, reading, work
        special = frozenset(model.tokenizer.all_special_ids)
        self.read = functools.cache(lambda reader: tokens_read(prompts[reader], reading.position, special))
        self.normed = functools.cache(lambda reader: tokens_normed(prompts[reader]))
        if reading.position not in POSITIONS:
            for reader in range(len(prompts)):  # one that lacks the span is refused before anything is run
                self.read(reader)

    @cached_property
    def _per_token(self) -> bool:
        return self.reading.position == "all"

    def run(self, passes: Sequence[Pass]) -> Iterator[Captured]:
        """Activations of every prompt that the passes end, pass by pass. Raises Diverged for inf or nan.

        On a GPU a thread of its own looks at what a pass found, out of managed memory page by page, while this one
        keeps the device's queue full: done in one thread, that took a fifth more time (docs/benchmarks.md).
        """
        if on_cpu():
            for passed, path in self._run(passes):
                yield from self._found(passed, path)
            return
        with ThreadPoolExecutor(1) as thread:
            looked_at: list[Future[list[Captured]]] = []
            for passed, path in self._run(passes):
                mx.eval([(part.lazy_sums, part.lazy_norms) for part in path])  # in the thread that built them
                looked_at.append(thread.submit(lambda *ended: list(self._found(*ended)), passed, path))
                while len(looked_at) > 1:
                    yield from looked_at.pop(0).result()
            for found in looked_at:
                yield from found.result()

    def _run(self, passes: Sequence[Pass]) -> Iterator[tuple[Pass, tuple[_Part, ...]]]:
        """Run all passes, and give each that ends prompts, with its own part and those of the passes before it.

        It is given once the next passes are under way. Passes run side by side where there are lanes, depth first, so
        that few caches are held.
        """
        memory = self.model.memory
        ready = [_Ready(this) for this in reversed(passes)]
        ended: deque[tuple[Pass, tuple[_Part, ...]]] = deque()
        while ready:
            group = [ready.pop() for _ in range(min(lanes(), len(ready)))]
            with memory.learning("capture", self._foreseen(group)) as watched:
                starts = [partial(self._start, one) for one in group]
                started = together(starts, lambda underway: underway.arrays)
                if watched:
                    mx.eval([underway.arrays for underway in started])
            children: list[_Ready] = []
            for one, underway in zip(group, started, strict=True):
                path = (*one.path, underway.part)
                children += [_Ready(child, underway.cache, path) for child in one.passed.children]
                if not one.passed.children:
                    ended.append((one.passed, path))
            ready += reversed(children)
            while len(ended) > lanes():
                yield ended.popleft()
        yield from ended

    def _foreseen(self, group: Sequence[_Ready]) -> int:
        """Bytes that passes side by side are going to take."""
        return peak_of(self.model, self.reading, [one.passed for one in group])

    def _found(self, passed: Pass, path: Sequence[_Part]) -> Iterator[Captured]:
        """Activations of the prompts that end with this pass."""
        if self._per_token:
            yield from (self._tokens_of(reader, path) for (reader,) in passed.readers)
        else:
            yield self._mean_of(tuple(reader for (reader,) in passed.readers), path)

    def _cache(self, this: Pass, parent: Cache | None) -> Cache | None:
        if parent is not None:
            cache = fork(parent, this.parents)
            if this.children and this.padding:
                for entry in cache:
                    entry.prepare(lengths=list(this.lengths), right_padding=this.padding)
        elif this.mixed:
            cache = self.model.new_mixed_cache(this.lengths)
        elif this.children:
            cache = self.model.new_cache()
        else:
            return None
        return growing_by(this.length, cache)  # by the pass's tokens, not by mlx-lm's 256

    def _start(self, one: _Ready) -> _Underway:
        """Build one pass lazily: what its readers want of it, and the cache for its children."""
        this, cache = one.passed, self._cache(one.passed, one.parent)
        tokens = np.zeros((len(this.parents), this.length), np.int32)
        normed = np.zeros(tokens.shape, np.float32)
        for row, (reader, *_) in enumerate(this.readers):
            tokens[row, : this.lengths[row]] = this.stretch(row, self.prompts[reader].tokens)
            normed[row, : this.lengths[row]] = this.stretch(row, self.normed(reader))
        weights, places = self._weights(this)
        looks, found_at = self._looks(weights, normed)
        wanted = range(max(self.reading.layers))
        with (
            paced(self.model, tokens.size, this.deepest, wanted, lambda layer: found_at.get(layer, ())),
            watching(self.model, self.reading.site, looks),
        ):
            self.model.network(mx.array(tokens), cache=cache)
        for entry in cache if cache and this.mixed else ():
            entry.finalize()  # moves padded rows to end together
        self.work.add(*tokens.shape)
        found = [found_at[layer] for layer in self.reading.layers]
        sums, norms = in_own_buffer(mx.stack([s for s, _ in found], axis=2)), mx.stack([n for _, n in found], axis=-1)
        kept = self._cached(cache) if this.children and cache else []
        return _Underway(_Part(sums, norms, places, this.lengths), cache, [sums, norms, *kept])

    def _weights(self, this: Pass) -> tuple[np.ndarray, dict[int, tuple[int, int]]]:
        """The different choices of tokens in each row, (B, K, T), and each reader's row and choice."""
        choices: list[dict[bytes, int]] = [{} for _ in this.readers]
        places: dict[int, tuple[int, int]] = {}
        for row, readers in enumerate(this.readers):
            for reader in readers:
                choice = this.stretch(row, self.read(reader)).tobytes()
                places[reader] = (row, choices[row].setdefault(choice, len(choices[row])))
        weights = np.zeros((len(choices), max(map(len, choices)), this.length), np.float32)
        for row, found in enumerate(choices):
            for choice, k in found.items():
                weights[row, k, : this.lengths[row]] = np.frombuffer(choice, bool)
        return weights, places

    def _looks(
        self, weights: np.ndarray, normed: np.ndarray
    ) -> tuple[dict[int, Look], dict[int, tuple[mx.array, mx.array]]]:
        """A look for every layer, and where they leave what they saw: sums (B, K, D) and norm sums (B,), lazily."""
        found: dict[int, tuple[mx.array, mx.array]] = {}
        read = _Sum(weights)
        norm_weights = mx.array(normed)

        def look(layer: int) -> Look:
            """A look that keeps the layer's sums, or every token."""

            def see(h: mx.array) -> None:
                """Leave what is read of the stream (B, T, D) in `found`."""
                norms = norms_of(h)  # (B, T)
                if self._per_token:
                    found[layer] = (h.astype(mx.float32), norms)
                else:
                    found[layer] = (read(h), (norms * norm_weights).sum(axis=-1))

            return see

        return {layer: look(layer) for layer in self.reading.layers}, found

    def _cached(self, cache: Cache) -> list[mx.array]:
        """The arrays of the cache up to the last wanted block; all of them where an entry is not a block's."""
        per_block = len(cache) == self.model.identity.n_layers
        return cache_arrays(cache[: max(self.reading.layers) + 1] if per_block else cache)

    def _mean_of(self, readers: tuple[int, ...], path: Sequence[_Part]) -> Captured:
        """The means over each reader's tokens, from the sums of the passes that it ran through."""
        found = []
        for part in path:
            rows, choices = np.array([part.places[reader] for reader in readers]).T
            found.append((part.sums[rows, choices], part.norms[rows]))  # (N, L, D), (N, L)
        values, norms = found[0]
        for more_values, more_norms in found[1:]:
            values += more_values
            norms += more_norms
        values /= np.array([self.read(reader).sum() for reader in readers])[:, None, None]
        norms /= np.array([self.normed(reader).sum() for reader in readers])[:, None]
        return self._finite(Captured(readers, values, norms))

    def _tokens_of(self, reader: int, path: Sequence[_Part]) -> Captured:
        """Every token of one reader, laid end to end from the passes that it ran through."""
        rows = [(part, part.places[reader][0]) for part in path]
        values = np.concatenate([part.sums[row][: part.lengths[row]] for part, row in rows])
        norms = np.concatenate([part.norms[row][: part.lengths[row]] for part, row in rows])
        return self._finite(Captured((reader,), values, norms))

    def _finite(self, captured: Captured) -> Captured:
        finite = np.isfinite(captured.values.sum(axis=-1) + captured.residual_norms)  # (N, L)
        if not finite.all():
            row, layer = np.argwhere(~finite)[0]
            prompt = self.prompts[captured.rows[min(row, len(captured.rows) - 1)]]
            raise Diverged(
                f"{self.model.name} gives inf or nan at {self.reading.site} of layer {self.reading.layers[layer]} for "
                f"the prompt {prompt.text[:60]!r}: leave that layer out, or use weights of a wider type (bfloat16)"
            )
        return captured


class _Sum:
    """Weighted sums over tokens, (B, T, D) -> (B, K, D) float32; where one token a row is wanted, that one is taken."""

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = mx.array(weights)  # (B, K, T)
        single = weights.shape[1] == 1 and (weights.sum(axis=-1) == 1).all()
        self._at = mx.array(weights.argmax(axis=-1)[:, :, None]) if single else None  # (B, 1, 1)
        self._nothing = not weights.any()

    def __call__(self, h: mx.array) -> mx.array:
        if self._nothing:
            return mx.zeros((h.shape[0], self._weights.shape[1], h.shape[-1]))
        if self._at is not None:
            return mx.take_along_axis(h, self._at, axis=1).astype(mx.float32)
        return weighted_sums(self._weights, h)
