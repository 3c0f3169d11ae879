"""Gradients: how probable given answers are under an addition to the residual stream, and which addition raises that.

Answers are read once: the caches of their prompts, and their unsteered streams at the layers where additions begin.
Every pass after that restarts at such a layer with the answers' tokens alone, so the blocks below it and the prompts
are never computed again. An addition acts as the phase `generation` does: from the prompt's last token on.

The vocabulary is left out of the differentiated pass: its gradient has a closed form, the probabilities, which NumPy
computes on a CPU many times as fast as MLX does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.derivative import gradient_of
from steering_core.engine.forward import Cache, fork, growing_by, read
from steering_core.engine.teacher_forcing import log_softmax, log_softmax_at
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import PromptError
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.models.cpu import with_gradients
from steering_core.models.taps import Edit, Edits

Additions = Mapping[int, np.ndarray]
"""What is added at each layer, one row an answer that is run, (n, D) float32."""


@dataclass(frozen=True)
class GivenAnswer:
    """Tokens of which those from `start` on, 1 or later, are an answer to those before. Raises PromptError for none."""

    tokens: tuple[int, ...]
    start: int

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise PromptError(
                f"an answer from token {self.start} on of {len(self.tokens)}: it needs a token before it, and one of "
                "its own; give the pair a longer text"
            )

    @property
    def length(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens) - self.start


@dataclass(frozen=True)
class Gradients:
    """Mean log-probability per token of n answers, (n,) in nats, and its gradient by each layer's addition, (n, D)."""

    values: np.ndarray
    by_layer: dict[int, np.ndarray]


@dataclass(frozen=True)
class _Group:
    """Answers that were read together: B rows with one cache, whose T tokens begin with the prompt's last one."""

    places: tuple[int, ...]  # among all answers
    cache: Cache
    tokens: mx.array  # (B, T)
    targets: np.ndarray  # (B, T) the token after each; 0 after an answer's end
    lengths: np.ndarray  # (B,)
    depth: int
    streams: dict[int, mx.array]  # (B, T, D)


class GivenAnswers:
    """Answers that were read by `model` once, to be run under additions that begin at one of `layers`.

    Raises LayerNotFound. `work` counts the passes.
    """

    def __init__(self, model: Model, answers: Sequence[GivenAnswer], layers: Sequence[int], work: Work) -> None:
        self._model, self._work = model, work
        self.layers = model.checked_layers(list(layers))
        self.answers = tuple(answers)
        self._groups = [self._read(members) for members in self._grouped()]
        self._home = {place: (g, i) for g, group in enumerate(self._groups) for i, place in enumerate(group.places)}

    def __len__(self) -> int:
        return len(self.answers)

    def log_probabilities(self, places: Sequence[int], additions: Additions) -> np.ndarray:
        """Mean log-probability per token of the answers at `places`, each under its row of `additions`, (n,) in nats.

        nan where logits are not finite.
        """
        values = np.empty(len(places))
        for group, rows, members in self._passes(places, additions):
            hidden = self._hidden(group, rows, {k: mx.array(v[members]) for k, v in additions.items()})
            wanted = _wanted(group, rows)
            found = log_softmax_at(_logits(self._model, hidden), np.arange(len(wanted)), wanted)
            values[members] = _means(found, group.lengths[rows])
        return values

    def distributions(self, additions: Additions) -> list[np.ndarray]:
        """Log-probabilities of the whole vocabulary before each token of every answer, (length, V) float32 each."""
        found: list[np.ndarray] = [np.empty(0)] * len(self)
        for group, rows, members in self._passes(range(len(self)), additions):
            hidden = self._hidden(group, rows, {k: mx.array(v[members]) for k, v in additions.items()})
            parts = np.split(log_softmax(_logits(self._model, hidden)), np.cumsum(group.lengths[rows])[:-1])
            for member, part in zip(members, parts, strict=True):
                found[member] = part
        return found

    def gradients(self, places: Sequence[int], additions: Additions, drawn: int | None = None) -> Gradients:
        """Mean log-probabilities and their gradients by the additions, all layers' from one backward pass.

        With a seed in `drawn` each token of the answers is exchanged for one drawn from the model's own distribution at
        that place: gradients of such tokens have mean zero, and their covariance is the Fisher information.
        """
        values = np.empty(len(places))
        by_layer = {layer: np.empty((len(places), self._model.identity.width)) for layer in additions}
        for group, rows, members in self._passes(places, additions):
            seeds = None if drawn is None else [(drawn, places[m]) for m in members]
            mine = {layer: added[members] for layer, added in additions.items()}
            values[members], found = self._backward(group, rows, mine, seeds)
            for layer, gradient in found.items():
                by_layer[layer][members] = gradient
        return Gradients(values, by_layer)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _grouped(self) -> Iterator[list[int]]:
        """Answers that are read together: those to one prompt, which is read once, and others of like length.

        Where the model's caches take rows of one length only, their prompts have one length.
        """
        longest: dict[tuple[int, ...], int] = {}  # of the answers to each prompt
        for a in self.answers:
            prompt = a.tokens[: a.start]
            longest[prompt] = max(longest.get(prompt, 0), a.length)

        def kind(place: int) -> int:
            """What answers must share to be read together: nothing, or their prompt's length."""
            return 0 if self._model.abilities.mixed else self.answers[place].start

        def order(place: int) -> tuple[int, int, tuple[int, ...], int]:
            """Sorts answers that may be read together by length, and those to one prompt side by side."""
            prompt = self.answers[place].tokens[: self.answers[place].start]
            return kind(place), longest[prompt], prompt, self.answers[place].length

        for _, some in groupby(sorted(range(len(self)), key=order), kind):
            members = list(some)
            while members:
                rows = self._at_once([self.answers[i] for i in members])
                yield members[:rows]
                members = members[rows:]

    def _at_once(self, answers: Sequence[GivenAnswer]) -> int:
        """How many of `answers`, from the first on, fit into one pass with gradients: at least one."""
        memory, n_layers = self._model.memory, self._model.identity.n_layers
        f, room = memory.footprint, memory.room("score")
        kept = n_layers - min(self.layers)  # blocks whose temporaries are held for the backward pass
        length = depth = 0
        for rows, answer in enumerate(answers):
            length, depth = max(length, answer.length), max(depth, len(answer.tokens))
            tokens = (rows + 1) * length
            held = tokens * (kept * (f.token + f.score * depth) + 2 * f.logits)
            if rows and (tokens > memory.habits.training or held > room):
                return rows
        return len(answers)

    def _read(self, members: Sequence[int]) -> _Group:
        """The caches of the answers' prompts, and the unsteered streams of their own tokens."""
        model, answers = self._model, [self.answers[i] for i in members]
        longest = max(answer.length for answer in answers)
        prompts = [answer.tokens[: answer.start] for answer in answers]
        batch = read(model, prompts, [Intervention()] * len(prompts), self._work, longest)
        tokens, targets = np.zeros((2, len(answers), longest), np.int32)
        for row, a in enumerate(answers):
            tokens[row, : a.length] = a.tokens[a.start - 1 : -1]
            targets[row, : a.length] = a.tokens[a.start :]
        cache = growing_by(longest, fork(batch.cache, range(len(answers))))
        with model.taps.observed(self.layers) as streams:
            model.network(mx.array(tokens), cache=cache)
        mx.eval(streams)
        self._work.add(*tokens.shape)
        lengths = np.array([answer.length for answer in answers])
        depth = max(len(answer.tokens) for answer in answers)
        return _Group(tuple(members), batch.cache, mx.array(tokens), targets, lengths, depth, streams)

    # -- passes -------------------------------------------------------------------------------------------------------

    def _passes(self, places: Sequence[int], additions: Additions) -> Iterator[tuple[_Group, np.ndarray, np.ndarray]]:
        """Each pass: its group, the group's rows that it runs, and where in `places` they stand."""
        self._model.checked_layers(list(additions))
        if min(additions) not in self.layers:
            raise ValueError(
                f"the answers were read for layers {self.layers}, and an addition begins at {min(additions)}"
            )
        homes = [self._home[place] for place in places]
        for g, group in enumerate(self._groups):
            members = np.array([m for m, (at, _) in enumerate(homes) if at == g], int)
            longest = max((self.answers[place] for place in group.places), key=lambda answer: answer.length)
            size = max(1, self._at_once([longest] * len(members)))
            for begin in range(0, len(members), size):
                some = members[begin : begin + size]
                yield group, np.array([homes[m][1] for m in some]), some

    def _hidden(self, group: _Group, rows: np.ndarray, additions: Mapping[int, mx.array]) -> mx.array:
        """The last block's output at the N places that predict an answer's token, (N, D), row after row, lazily."""
        model, last = self._model, self._model.identity.n_layers - 1
        index = mx.array(rows.astype(np.int32))
        tokens, longest = group.tokens[index], group.tokens.shape[1]
        kept = mx.array(_places(group, rows))
        seen: list[mx.array] = []

        def adding(layer: int) -> Edit:
            """The edit that adds each row's vector; at the first layer, to the stored stream in the model's place."""
            added = additions[layer][:, None]  # (b, 1, D)
            if layer != min(additions):
                return lambda h: h + added.astype(h.dtype)
            stream = group.streams[layer][index]
            return lambda _: stream + added.astype(stream.dtype)

        def keeping(h: mx.array) -> mx.array:
            """Keep the stream where it predicts a token of an answer, once the edits at this layer have acted."""
            h = edits_there(h)
            seen.append(h.reshape(-1, h.shape[-1])[kept])
            return h

        edits: Edits = {layer: adding(layer) for layer in additions}
        edits_there: Callable[[mx.array], mx.array] = edits.get(last, lambda h: h)
        cache = growing_by(longest, fork(group.cache, rows.tolist()))
        with model.taps.applied({**edits, last: keeping}):
            model.network(tokens, cache=cache)
        self._work.add(len(rows), longest)
        return seen[-1]

    def _backward(
        self, group: _Group, rows: np.ndarray, additions: Additions, seeds: list[tuple[int, int]] | None
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The values (b,) and each layer's gradients (b, D) of one pass."""
        layers, lengths = list(additions), group.lengths[rows]
        values: list[np.ndarray] = []

        def along(deltas: Sequence[mx.array]) -> mx.array:
            """hidden . gradient, summed: by the chain rule its gradient is that of the mean log-probabilities."""
            hidden = self._hidden(group, rows, dict(zip(layers, deltas, strict=True)))
            chosen, gradient = _vocabulary(self._model, hidden, _wanted(group, rows), lengths, seeds)
            values.append(_means(chosen, lengths))
            return (hidden.astype(mx.float32) * gradient).sum()

        with with_gradients():
            deltas = [mx.array(additions[layer].astype(np.float32)) for layer in layers]
            found = gradient_of(self._model, along, deltas)
        return values[0], {layer: np.array(each, np.float64) for layer, each in zip(layers, found, strict=True)}


def _places(group: _Group, rows: np.ndarray) -> np.ndarray:
    """Indices, into the pass's b x T tokens, of those that predict an answer's token, row after row, (N,)."""
    longest = group.tokens.shape[1]
    return np.concatenate([b * longest + np.arange(group.lengths[row]) for b, row in enumerate(rows)]).astype(np.int32)


def _wanted(group: _Group, rows: np.ndarray) -> np.ndarray:
    """The answers' tokens, row after row, (N,)."""
    return np.concatenate([group.targets[row, : group.lengths[row]] for row in rows])


def _means(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The mean of each row's values, (N,) -> (b,), where the values stand row after row."""
    return np.array([part.mean(dtype=np.float64) for part in np.split(values, np.cumsum(lengths)[:-1])])


def _logits(model: Model, hidden: mx.array) -> mx.array:
    """Logits (N, V) of the last block's outputs (N, D), lazily: no block is computed for it."""
    with model.taps.applied({model.identity.n_layers - 1: lambda _: hidden[None]}):
        logits: mx.array = model.network(mx.zeros((1, 1), mx.int32), cache=model.new_cache())
    return logits[0]


def _vocabulary(
    model: Model, hidden: mx.array, wanted: np.ndarray, lengths: np.ndarray, seeds: list[tuple[int, int]] | None
) -> tuple[np.ndarray, mx.array]:
    """Log-probability of every wanted (or drawn) token, (N,), and the gradient of the rows' means by `hidden`, (N, D).

    MLX traces the pass that made `hidden`. Here `hidden` is evaluated and copied, so nothing that follows is traced.
    """
    mx.eval(hidden)
    there = mx.array(np.array(hidden.astype(mx.float32))).astype(hidden.dtype)
    logits = _logits(model, there).astype(mx.float32)
    chosen, slope = (_slopes if on_cpu() else _slopes_on_gpu)(logits, wanted, lengths, seeds)
    _, (gradient,) = mx.vjp(lambda h: _logits(model, h).astype(mx.float32), [there], [slope])
    mx.eval(gradient)
    return chosen, gradient.astype(mx.float32)


def _slopes(
    logits: mx.array, wanted: np.ndarray, lengths: np.ndarray, seeds: list[tuple[int, int]] | None
) -> tuple[np.ndarray, mx.array]:
    """Log-probability of each token (N,), and the gradient of the rows' means by the logits, (N, V)."""
    found = log_softmax(logits)
    if seeds is not None:
        wanted = _drawn(found, _uniform(lengths, seeds))
    places = np.arange(len(found))
    chosen = found[places, wanted]
    slope = np.exp(found, out=found)
    np.negative(slope, out=slope)
    slope[places, wanted] += 1
    slope /= np.repeat(lengths, lengths)[:, None]
    return chosen, mx.array(slope)


def _slopes_on_gpu(
    logits: mx.array, wanted: np.ndarray, lengths: np.ndarray, seeds: list[tuple[int, int]] | None
) -> tuple[np.ndarray, mx.array]:
    """What `_slopes` computes, without handing all of the vocabulary to NumPy."""
    found = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    likely = mx.exp(found)
    tokens = mx.array(wanted)[:, None]
    if seeds is not None:
        up_to = mx.cumsum(likely, axis=-1)
        below = mx.array(_uniform(lengths, seeds).astype(np.float32))[:, None] * up_to[:, -1:]
        tokens = mx.minimum((up_to <= below).sum(axis=-1, keepdims=True), logits.shape[-1] - 1)
    chosen = mx.take_along_axis(found, tokens, axis=-1)[:, 0]
    hit = (mx.arange(logits.shape[-1]) == tokens).astype(mx.float32)
    return np.array(chosen), (hit - likely) / mx.array(np.repeat(lengths, lengths).astype(np.float32))[:, None]


def _uniform(lengths: np.ndarray, seeds: Sequence[tuple[int, int]]) -> np.ndarray:
    """A number in [0, 1) for each token, by its answer's own seed, (N,)."""
    return np.concatenate([np.random.default_rng(seed).random(n) for seed, n in zip(seeds, lengths, strict=True)])


def _drawn(log_probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The token that each number picks from its row of log-probabilities, (N, V), (N,) -> (N,)."""
    drawn = np.empty(len(uniform), int)
    for place, (row, below) in enumerate(zip(log_probabilities, uniform, strict=True)):
        up_to = np.cumsum(np.exp(row, dtype=np.float64))
        drawn[place] = min(np.searchsorted(up_to, below * up_to[-1], side="right"), len(row) - 1)
    return drawn
