"""Forward passes: read prompts into a cache, advance by a token; every row under its own intervention.

`read` runs a batch of prompts up to their last token, sharing what rows share (`sharing`); `advance` runs one more
token of every row and gives logits. `sampling` draws new tokens with them, `teacher_forcing` scores given ones.
Padding stands on the right, after a row's last token: in a causal model that changes no row.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mlx.utils import tree_map

from steering_core.backend.mlx import mx
from steering_core.engine.pace import paced
from steering_core.engine.sharing import SharedRows, share_rows
from steering_core.engine.steering import Offsets, RowTurns, Steering
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError, PromptError
from steering_core.interventions.change import Condition, Intervention
from steering_core.interventions.spans import located
from steering_core.interventions.turns import labelled
from steering_core.interventions.where import Labels
from steering_core.models import Model
from steering_core.models.memory import cache_step
from steering_core.models.raw_text import Tokens
from steering_core.models.taps import Edits, merged, storing

Cache = list[Any]


def forward(
    model: Model, tokens: mx.array, cache: Cache | None, steering: Steering | None, offset: Offsets
) -> mx.array:
    """Logits (B, T, V) of tokens (B, T) that stand at positions offset .. offset + T - 1, lazily.

    Without a cache a new one is made: some architectures (gemma3n, plamo3) compute something else without any.
    """
    edits = steering.edits(offset, tokens.shape[1]) if steering else {}
    return edited(model, tokens, model.new_cache() if cache is None else cache, edits)


def edited(model: Model, tokens: mx.array, cache: Cache, edits: Edits) -> mx.array:
    """Logits (B, T, V) of tokens (B, T) with those edits at the blocks' outputs, lazily."""
    with model.taps.applied(edits):
        logits: mx.array = model.network(tokens, cache=cache)
    return logits


# -- caches ---------------------------------------------------------------------------------------------------------


def fork(cache: Cache, rows: Sequence[int]) -> Cache:
    """A cache whose row i is row `rows[i]` of `cache`, which stays as it is. Works for every cache of mlx-lm."""
    index = mx.array(np.array(rows, np.int32))
    return [_taken(entry, index) for entry in cache]


def _taken(entry: Any, index: mx.array) -> Any:
    if hasattr(entry, "caches"):  # a list of caches, one for each kind of attention in a block
        new = copy.copy(entry)
        new.caches = [_taken(inner, index) for inner in entry.caches]
        return new
    new = copy.copy(entry)
    if hasattr(entry, "filter"):  # rows of different lengths, or a state-space model's state
        new.filter(index)
        return new
    new.state = tree_map(lambda leaf: leaf[index] if isinstance(leaf, mx.array) and leaf.ndim else leaf, entry.state)
    return new


def growing_by(step: int, cache: Cache) -> Cache:
    """`cache`, whose keys and values get room for `step` tokens at once, where they are kept in mlx-lm's plain form."""
    for entry in cache:
        if type(entry).__name__ in ("KVCache", "_OneOffset"):
            entry.step = step
    return cache


def cache_arrays(cache: Cache) -> list[mx.array]:
    """The arrays of a cache, for evaluation."""
    return [leaf for leaf in _leaves([entry.state for entry in cache]) if isinstance(leaf, mx.array)]


def _leaves(tree: Any) -> list[Any]:
    leaves: list[Any] = []
    tree_map(leaves.append, tree)
    return leaves


def _rows_in(entry: Any) -> int:
    """How many rows a cache's entry has; 0 where it is empty."""
    arrays = [leaf for leaf in _leaves(entry.state) if isinstance(leaf, mx.array) and leaf.ndim > 1]
    return arrays[0].shape[0] if arrays else 0


def prefill(model: Model, prefix: Sequence[int], work: Work) -> Cache:
    """A cache of one row after `prefix`, unsteered, without room for more."""
    cache = growing_by(len(prefix), model.new_cache())
    _read_into(model, cache, np.array([list(prefix)], np.int32), lambda *_: {}, work)
    return cache


def prefill_together(model: Model, prefixes: Sequence[Sequence[int]], work: Work) -> Cache:
    """A cache of one row after each of `prefixes`, unsteered, whose lengths may differ."""
    lengths = [len(prefix) for prefix in prefixes]
    padded = np.zeros((len(prefixes), max(lengths)), np.int32)
    for row, prefix in enumerate(prefixes):
        padded[row, : len(prefix)] = prefix
    cache = growing_by(max(lengths), model.new_mixed_cache(lengths))
    _read_into(model, cache, padded, lambda *_: {}, work)
    for entry in cache:
        entry.finalize()
    return cache


def _read_into(
    model: Model, cache: Cache, tokens: np.ndarray, edits: Callable[[int, int], Edits], work: Work, start: int = 0
) -> None:
    """Have a cache that holds `start` tokens hold `tokens` (B, T) after them; edits by offset and length.

    As many are read at once as memory has room for.
    """
    rows, length = tokens.shape
    step = model.memory.stretch(rows, start + length)
    for begin in range(0, length, step):
        part = tokens[:, begin : begin + step]
        but_the_last = range(len(model.taps) - 1)  # of which only keys and values are wanted
        with paced(model, part.size, start + begin + part.shape[1], but_the_last):
            edited(model, mx.array(part), cache, edits(start + begin, part.shape[1]))
        mx.eval(cache_arrays(cache))
        work.add(*part.shape)


# -- prompts --------------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Rows that go on from a cache: the tokens in it, each row's last token, and what is done to each row.

    The cache holds all of a row's tokens but the last, so that the next pass gives logits.
    """

    cache: Cache
    last: mx.array  # (B,)
    lengths: np.ndarray  # (B,) tokens of each row, the last one included
    steering: Steering

    def __len__(self) -> int:
        return len(self.lengths)

    def keep(self, rows: Sequence[int]) -> "Batch":
        """The batch of those rows alone."""
        index = mx.array(np.array(rows, np.int32))
        kept = list(rows)
        return Batch(fork(self.cache, kept), self.last[index], self.lengths[kept], self.steering.keep(kept))

    def steered(self, interventions: Sequence[Intervention]) -> "Batch":
        """The same rows, with what they have read, under other interventions from here on."""
        return Batch(fork(self.cache, range(len(self))), self.last, self.lengths, Steering(interventions, self.lengths))


def checked(model: Model, tokens: Tokens, intervention: Intervention) -> Intervention:
    """The intervention with its spans located in the prompt. Raises InterventionError, PromptError for a misfit."""
    if not tokens:
        raise PromptError("a prompt without tokens: give it some text")
    intervention.check(model.identity.n_layers, model.identity.width)
    intervention = labelled(located(intervention, tokens, model.text), tokens, lambda some: labels(model, some))
    for change in intervention.changes:
        change.where.check_prompt(len(tokens))
    return _decided(model, tokens, intervention)


def _decided(model: Model, tokens: Tokens, intervention: Intervention) -> Intervention:
    """The intervention with its conditions on the whole prompt decided.

    A change whose condition holds acts always; one whose condition does not hold is left out.
    """
    asked = {id(c.condition): c.condition for c in intervention.changes if c.condition and c.condition.over == "prompt"}
    if not asked:
        return intervention
    holds = dict(zip(asked, _hold(model, tokens, list(asked.values())), strict=True))
    kept = [change for change in intervention.changes if holds.get(id(change.condition), True)]
    return Intervention(
        tuple(replace(change, condition=None) if id(change.condition) in holds else change for change in kept)
    )


def _hold(model: Model, tokens: Tokens, conditions: Sequence[Condition]) -> list[bool]:
    """Whether each condition holds of the mean over what was asked, as the untouched model reads the prompt."""
    streams: dict[int, mx.array] = {}
    looks = storing(streams, {condition.layer for condition in conditions})
    edited(model, mx.array([tokens]), model.new_cache(), looks)
    seen = {layer: h[0].astype(mx.float32) for layer, h in streams.items()}  # (T, D)
    mx.eval(seen)
    asked = _asked(model, tokens)
    means = {layer: np.array(stream)[asked].mean(axis=0) for layer, stream in seen.items()}
    found = []
    for c in conditions:
        value = float(means[c.layer] @ (c.direction / max(float(np.linalg.norm(c.direction)), 1e-12)))
        found.append(value > c.threshold if c.above else value < c.threshold)
    return found


def _asked(model: Model, tokens: Tokens) -> list[int]:
    """The positions of the user's last turn; without any turns all but the first, whose stream is like no other's."""
    user: list[int] = []
    if model.chat_template.exists:
        user = [place for place, phase in enumerate(model.turns.labels(tokens)) if phase == "user"]
    if not user:
        return list(range(min(1, len(tokens) - 1), len(tokens)))
    start = next((place for place in reversed(user) if place - 1 not in user), user[0])
    return [place for place in user if place >= start]


def labels(model: Model, tokens: Sequence[int]) -> Labels:
    """The phases of a conversation's positions. Raises InterventionError for a model without a chat template."""
    if not model.chat_template.exists:
        raise InterventionError(
            f"{model.name} has no chat template, so its texts have no turns: steer in the phase prompt, generation "
            "or all"
        )
    return Labels(model.turns.labels(tokens), model.turns.move)


def read(
    model: Model, prompts: Sequence[Tokens], interventions: Sequence[Intervention], work: Work, more: int = 256
) -> Batch:
    """The batch of `prompts` (B), each read up to its last token under its own (checked) intervention.

    Caches have room for `more` tokens of each row, and grow where more come.

    Prompts of different lengths need a model whose caches take them (`Model.abilities`).
    """
    lengths = np.array([len(tokens) for tokens in prompts])
    mixed = len(set(lengths.tolist())) > 1
    rows = share_rows(prompts, interventions, may_grow=model.abilities.grows and not mixed)
    steering = Steering(interventions, lengths.tolist())
    stems = [prompts[row][:-1] for row in rows.order[: rows.counts[0]]]
    fill = _fill_mixed if mixed else _fill
    step = cache_step(int(lengths.max()) + more)
    cache = fill(model, stems, rows, steering, work, step)
    return Batch(cache, mx.array([tokens[-1] for tokens in prompts]), lengths, steering)


def _fill(model: Model, stems: Sequence[Tokens], rows: SharedRows, steering: Steering, work: Work, step: int) -> Cache:
    """A cache after `stems`, which have one length, spread to the whole batch; it grows by `step` tokens."""
    cache = growing_by(step, model.new_cache())
    _read_into(model, cache, np.array(stems, np.int32), lambda *at: rows.edits(steering, *at), work)
    indices = {count: mx.array(np.array(rows.spread(count), np.int32)) for count in rows.counts}
    return [_taken(entry, indices[count]) if (count := _rows_in(entry)) else entry for entry in cache]


def _fill_mixed(
    model: Model, stems: Sequence[Tokens], rows: SharedRows, steering: Steering, work: Work, step: int
) -> Cache:
    """A cache after stems of different lengths: padded on the right while they are read, then moved to end together."""
    lengths = [len(stem) for stem in stems]
    longest = max(lengths)
    padded = np.zeros((len(stems), longest), np.int32)
    for row, stem in enumerate(stems):
        padded[row, : len(stem)] = stem
    cache = growing_by(step, model.new_mixed_cache(lengths))
    _read_into(model, cache, padded, lambda *at: rows.edits(steering, *at), work)
    for entry in cache:
        entry.finalize()
    return fork(cache, rows.spread(len(stems)))


def resumed(
    model: Model, tokens: Tokens, intervention: Intervention, cache: Cache, known: int, work: Work, more: int = 256
) -> Batch:
    """The batch of one prompt of which `cache` holds the first `known` tokens, under its (checked) intervention."""
    steering = Steering([intervention], [len(tokens)])
    cache = growing_by(cache_step(len(tokens) + more), cache)
    if rest := tokens[known:-1]:
        _read_into(model, cache, np.array([rest], np.int32), steering.edits, work, known)
    return Batch(cache, mx.array([tokens[-1]]), np.array([len(tokens)]), steering)


def advance(
    model: Model,
    batch: Batch,
    tokens: mx.array,
    step: int | np.ndarray,
    work: Work,
    watch: Edits | None = None,
    turns: RowTurns | None = None,
) -> mx.array:
    """Logits (B, V) after `tokens` (B,), which stand `step` positions after each row's last prompt token, lazily.

    `step` is one number for all rows, or one each (B,).

    `watch` sees the stream at its layers after the steering there. `turns` is the phase of each row's position, where
    it is known.
    """
    edits = batch.steering.edits(batch.lengths - 1 + step, 1, turns)
    if watch:
        edits = merged(edits, watch)
    work.add(len(batch), 1)
    with paced(model, len(batch), int((batch.lengths + step).max()), range(len(model.taps) - 1)):
        return edited(model, tokens[:, None], batch.cache, edits)[:, -1]
