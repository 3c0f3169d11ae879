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
from steering_core.models.memory import arrays_in, cache_step
from steering_core.models.raw_text import Tokens
from steering_core.models.taps import Edits, merged

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
    """`cache`, whose keys and values get room for `step` tokens at once, where they have spare room at all."""
    for entry in cache:
        if has_spare_room(entry):
            entry.step = step
    return cache


def has_spare_room(entry: Any) -> bool:
    """Whether a cache's entry keeps keys and values in arrays that are longer than what they hold."""
    return type(entry).__name__ in ("KVCache", "_OneOffset")  # by name: mlx-lm is imported with a network alone


def cache_arrays(cache: Cache) -> list[mx.array]:
    """The arrays of a cache, for evaluation."""
    return arrays_in([entry.state for entry in cache])


def _rows_in(entry: Any) -> int:
    """How many rows a cache's entry has; 0 where it is empty."""
    return next((array.shape[0] for array in arrays_in(entry.state) if array.ndim > 1), 0)


def prefill(model: Model, prefix: Sequence[int], work: Work) -> Cache:
    """A cache of one row after `prefix`, unsteered, without room for more."""
    cache = growing_by(len(prefix), model.new_cache())
    _read_into(model, cache, np.array([list(prefix)], np.int32), lambda *_: {}, work)
    return cache


def prefill_together(model: Model, prefixes: Sequence[Sequence[int]], work: Work) -> Cache:
    """A cache with a row for each of `prefixes`, unsteered; their lengths may differ."""
    return _read_mixed(model, prefixes, lambda *_: {}, work, step=max(map(len, prefixes)))


def _read_mixed(
    model: Model, rows: Sequence[Sequence[int]], edits: Callable[[int, int], Edits], work: Work, step: int
) -> Cache:
    """A cache after rows of different lengths: padded on the right while they are read, then moved to end together.

    `edits` are by offset and length; the cache grows by `step` tokens.
    """
    cache = growing_by(step, model.new_mixed_cache([len(row) for row in rows]))
    _read_into(model, cache, padded(rows), edits, work)
    for entry in cache:
        entry.finalize()
    return cache


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of tokens, padded on the right with 0 to the longest, (B, T) int32."""
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, own in enumerate(rows):
        tokens[row, : len(own)] = own
    return tokens


def _read_into(
    model: Model, cache: Cache, tokens: np.ndarray, edits: Callable[[int, int], Edits], work: Work, start: int = 0
) -> None:
    """Read `tokens` (B, T) into a cache that holds `start` tokens already; `edits` are by offset and length.

    As many tokens are read at once as memory has room for.
    """
    rows, length = tokens.shape
    step = model.memory.stretch(rows, start + length)
    for begin in range(0, length, step):
        part = tokens[:, begin : begin + step]
        blocks = range(len(model.taps) - 1)  # not the last: only its keys and values are wanted, not its output
        with paced(model, part.size, start + begin + part.shape[1], blocks):
            edited(model, mx.array(part), cache, edits(start + begin, part.shape[1]))
        mx.eval(cache_arrays(cache))
        work.add(*part.shape)


# -- prompts --------------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Rows that were read into one cache, ready for the next token: their last tokens, lengths and steering.

    The cache holds all of a row's tokens but the last, so that the pass over the last one gives logits.
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
    """Whether each condition holds of the mean over the user's last turn, as the untouched model reads the prompt."""
    with model.taps.observed({condition.layer for condition in conditions}) as streams:
        model.network(mx.array([tokens]), cache=model.new_cache())
    seen = {layer: h[0].astype(mx.float32) for layer, h in streams.items()}  # (T, D)
    mx.eval(seen)
    asked = _last_user_turn(model, tokens)
    means = {layer: np.array(stream)[asked].mean(axis=0) for layer, stream in seen.items()}
    found = []
    for c in conditions:
        value = float(means[c.layer] @ c.unit)
        found.append(value > c.threshold if c.above else value < c.threshold)
    return found


def _last_user_turn(model: Model, tokens: Tokens) -> list[int]:
    """The positions of the user's last turn; in a text without turns all but the first, an attention sink."""
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

    Caches have room for `more` tokens of each row, and grow where more come. Prompts of different
    lengths need a model whose caches take them (`Model.abilities`).
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
    """A cache after `stems`, whose lengths differ, spread to the whole batch; it grows by `step` tokens."""
    cache = _read_mixed(model, stems, lambda *at: rows.edits(steering, *at), work, step)
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

    `step` is one number for all rows, or one each (B,). `watch` sees the stream at its layers after the steering there.
    `turns` is the phase of each row's position, where it is known.
    """
    edits = batch.steering.edits(batch.lengths - 1 + step, 1, turns)
    if watch:
        edits = merged(edits, watch)
    work.add(len(batch), 1)
    with paced(model, len(batch), int((batch.lengths + step).max()), range(len(model.taps) - 1)):
        return edited(model, tokens[:, None], batch.cache, edits)[:, -1]
