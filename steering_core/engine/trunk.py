"""`Trunk`: a prompt and its continuations run unsteered, once; steered rows restart from it at the layer they change.

Up to the layer that an intervention changes first, a steered pass computes what the unsteered one did. So a restart
puts the stored stream in the place of that block's output: MLX is lazy, and the blocks before it are then never
computed. That is exact, and on average half the work (docs/evaluation.md). Rows that change different layers first
share a pass: each joins the stream at its own layer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steering_core.backend.mlx import mx
from steering_core.engine.forward import Cache, cache_arrays, fork, padded, prefill, prefill_together
from steering_core.engine.pace import paced
from steering_core.engine.prefixes import row_of
from steering_core.engine.steering import Steering
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention, first_position
from steering_core.models import Model
from steering_core.models.mlx_lm import ConcatenateKVCache
from steering_core.models.taps import Edit, Edits


@dataclass(frozen=True)
class Trunk:
    """S continuations of one prompt, (S, T) tokens at positions offset .. offset + T - 1, and their unsteered streams.

    `cache` is the prompt's, one row, up to `offset`; `streams` (S, T, D) are the outputs of blocks where rows restart.
    """

    model: Model
    tokens: mx.array
    offset: int
    prompt_length: int
    cache: Cache | None
    streams: dict[int, mx.array]

    @property
    def grows(self) -> bool:
        """Whether rows may join a pass between two blocks."""
        fits = self.cache is None or len(self.cache) == self.model.identity.n_layers
        return self.model.abilities.grows and fits


@dataclass(frozen=True)
class _Joining:
    """Rows that join a pass at the output of one block: their stream there, and what is done to them from it on."""

    layer: int
    stream: mx.array  # (b, T, D)
    edits: Edits


def first_layer(intervention: Intervention, n_layers: int) -> int:
    """The first block whose output is changed or read; the last block for no intervention at all."""
    return min((change.first_layer for change in intervention.changes), default=n_layers - 1)


def shared_prefix(prompt: tuple[int, ...], interventions: Sequence[Intervention]) -> int:
    """How many of a prompt's tokens no intervention touches, its last one excepted: all rows share their cache."""
    return int(min(first_position(interventions, len(prompt)), len(prompt) - 1))


def grow(
    model: Model,
    prompt: tuple[int, ...],
    continuations: Sequence[tuple[int, ...]],
    interventions: Sequence[Intervention],
    work: Work,
) -> Trunk:
    """The trunk of `continuations` of `prompt`, with a stream at every layer where one of `interventions` begins.

    The model keeps it, as far as it has room: the same continuations under other interventions restart from it as well.
    """
    for intervention in interventions:
        intervention.check(model.identity.n_layers, model.identity.width)
    offset = shared_prefix(prompt, interventions)
    layers = {first_layer(intervention, model.identity.n_layers) for intervention in interventions}
    cache = _prefix(model, prompt[:offset], work) if offset else None
    key = ("trunk", prompt, tuple(continuations), offset)
    tokens, streams = model.remembered.found(key) or (None, {})
    if tokens is None or not layers <= streams.keys():
        tokens = mx.array(padded([(prompt + continuation)[offset:] for continuation in continuations]))
        streams = _streams(model, tokens, offset, cache, layers | streams.keys(), work)
        model.remembered.keep(key, (tokens, streams), sum(stream.nbytes for stream in streams.values()))
    return Trunk(model, tokens, offset, len(prompt), cache, streams)


def _prefix(model: Model, tokens: tuple[int, ...], work: Work) -> Cache:
    """The unsteered cache of one row after `tokens`, from what the model remembers where it is there."""
    cache: Cache | None = model.remembered.found(("prefix", tokens))
    if cache is None:
        cache = prefill(model, tokens, work)
        _keep_prefix(model, tokens, cache)
    return cache


def read_ahead(model: Model, prompts: Iterable[tuple[int, ...]], work: Work) -> None:
    """Read prompts up to their last tokens, all together, and have the model keep what it read.

    Read one prompt at a time, each token costs twice as much. Where the model's caches take rows of one length only,
    nothing is read here: each prompt is read when its trunk is grown.
    """
    prefixes = list(dict.fromkeys(prompt[:-1] for prompt in prompts if len(prompt) > 1))
    missing = [prefix for prefix in prefixes if model.remembered.found(("prefix", prefix)) is None]
    if len(missing) < 2 or not model.abilities.mixed:
        return
    size = max(1, model.memory.habits.extraction // max(map(len, missing)))
    for begin in range(0, len(missing), size):
        some = missing[begin : begin + size]
        cache = prefill_together(model, some, work)
        for row, prefix in enumerate(some):
            _keep_prefix(model, prefix, row_of(cache, row))


def _keep_prefix(model: Model, tokens: tuple[int, ...], cache: Cache) -> None:
    model.remembered.keep(("prefix", tokens), cache, sum(array.nbytes for array in cache_arrays(cache)))


def _streams(
    model: Model, tokens: mx.array, offset: int, cache: Cache | None, layers: set[int], work: Work
) -> dict[int, mx.array]:
    """The unsteered streams (S, T, D) of tokens (S, T) behind a prefix of `offset` tokens, at `layers`."""
    pace = paced(model, tokens.size, offset + tokens.shape[1], range(max(layers)))
    with pace, model.taps.observed(layers) as streams:
        model.network(tokens, cache=_branched(cache, [len(tokens)] * model.identity.n_layers))
    mx.eval(streams)
    work.add(*tokens.shape)
    return streams


def restart(
    trunk: Trunk, rows: Sequence[tuple[int, Intervention]], keep: Sequence[tuple[int, int]], work: Work
) -> mx.array:
    """Logits (N, V) at the N places `keep`, (row, position from the trunk's offset), lazily.

    Each row is the index of a continuation and what is done to it. They come in the order of the layers that they
    change first, which is one layer where the trunk does not grow.
    """
    n_layers = trunk.model.identity.n_layers
    layers = [first_layer(intervention, n_layers) for _, intervention in rows]
    length = trunk.tokens.shape[1]
    places = mx.array([row * length + position for row, position in keep])
    groups = [
        _joining(trunk, layer, [row for row, at in zip(rows, layers, strict=True) if at == layer])
        for layer in dict.fromkeys(layers)
    ]
    edits = {layer: _grown(groups, layer) for layer in sorted({*layers, *(at for g in groups for at in g.edits)})}
    # the last block's output (B, T, D) -> (1, N, D), so that the vocabulary projection sees those places alone
    edits[n_layers - 1] = _after(edits.get(n_layers - 1), lambda h: _finite(_flat(h)[places])[None])
    counts = [max(1, sum(layer < place for layer in layers)) for place in range(n_layers)]
    joined = range(min(layers), n_layers - 1)  # the blocks before are not computed
    with paced(trunk.model, len(rows) * length, trunk.offset + length, joined), trunk.model.taps.applied(edits):
        logits: mx.array = trunk.model.network(trunk.tokens[:1], cache=_branched(trunk.cache, counts))
    work.add(len(rows), length)
    return logits[0]


def _joining(trunk: Trunk, layer: int, rows: Sequence[tuple[int, Intervention]]) -> _Joining:
    """Rows that all change `layer` first."""
    steering = Steering([intervention for _, intervention in rows], [trunk.prompt_length] * len(rows))
    stream = trunk.streams[layer][mx.array([continuation for continuation, _ in rows])]  # (S, T, D) -> (b, T, D)
    return _Joining(layer, stream, steering.edits(trunk.offset, trunk.tokens.shape[1]))


def _grown(groups: Sequence[_Joining], layer: int) -> Edit:
    """The edit at a block's output: it changes the rows in the stream, and appends the rows that join there."""

    def edit(h: mx.array) -> mx.array:
        """The stream of all rows that have joined, each after its own edits at this layer."""
        pieces: list[mx.array] = []
        done = begin = 0  # rows that are in `pieces`, and rows looked at
        for group in groups:
            if group.layer > layer:
                break
            end = begin + len(group.stream)
            if group.layer == layer or layer in group.edits:
                if done < begin:
                    pieces.append(h[done:begin])
                piece = group.stream if group.layer == layer else h[begin:end]
                pieces.append(group.edits[layer](piece) if layer in group.edits else piece)
                done = end
            begin = end
        if done < begin:
            pieces.append(h[done:begin])
        return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)

    return edit


def _flat(h: mx.array) -> mx.array:
    return h.reshape(-1, h.shape[-1])


def _finite(h: mx.array) -> mx.array:
    """`h` (N, D) with nan in rows whose norm overflows: a norm layer would turn them into harmless-looking zeros."""
    squares = mx.square(h.astype(mx.float32)).sum(axis=-1, keepdims=True)
    return mx.where(mx.isfinite(squares), h, mx.array(float("nan"), h.dtype))


def _after(first: Edit | None, then: Edit | None) -> Edit:
    """`first` and then `then`, where either may be None."""

    def edit(h: mx.array) -> mx.array:
        """Both edits in turn; the stream as it came where there is neither."""
        h = first(h) if first else h
        return then(h) if then else h

    return edit


def _branched(cache: Cache | None, counts: Sequence[int]) -> Cache | None:
    """A fresh cache whose entry i has counts[i] rows, each the one row of `cache`; lazily, so unused ones are free.

    The plain cache of most architectures is joined to new keys without the room that it keeps for growth.
    """
    if cache is None:
        return None
    if len(cache) != len(counts):  # not every block has an entry, so all get the largest count
        counts = [max(counts)] * len(cache)
    branched = []
    for entry, count in zip(cache, counts, strict=True):
        if type(entry).__name__ == "KVCache":
            joined = ConcatenateKVCache()
            keys, values = entry.keys_and_values()
            joined.state = (_repeated(keys, count), _repeated(values, count))
            branched.append(joined)
        else:
            branched += fork([entry], [0] * count)
    return branched


def _repeated(array: mx.array, count: int) -> mx.array:
    """(1, H, P, D) -> (count, H, P, D), without a copy."""
    return mx.broadcast_to(array, (count, *array.shape[1:]))
