"""Sampling: new tokens for a batch, every row under its own intervention; whole, or token by token.

`sample` gives each text when it is finished, for grids of any size. `stream` gives every token as it is drawn, for
several rows at once:

    with stream(model, [Request(tokens), Request(tokens, intervention)], max_tokens=60) as tokens:
        for token in tokens:                     # rows take turns: 0, 1, 0, 1, …
            show(token.row, token.text)          # its piece of text; token.finish says when and why a row ended
            if nobody_listens(token.row):
                tokens.cancel(token.row)         # that row draws no more; leaving the `with` ends all

With `probes=[Probe(layer, direction), …]` each token brings `projections`: the stream's component along each direction
at the position from which the token was drawn (`probes.projections` reads any text's tokens at their own positions).
A stream belongs to the thread that made it: MLX evaluates nothing across threads.
"""

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple

import numpy as np

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.draws import Draws
from steering_core.engine.forward import advance, checked, read
from steering_core.engine.growing_text import GrowingText
from steering_core.engine.probes import Probe, Watch
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.models.taps import behind

DIVERGED, STOPPED, FULL = "diverged", "stop", "length"


@dataclass(frozen=True)
class Request:
    """One text to sample: a prompt's tokens, what is done to the residual stream, and the seed of its randomness.

    `max_tokens` ends it before its neighbours' limit; the model's context ends it in any case.
    """

    tokens: tuple[int, ...]
    intervention: Intervention = Intervention()
    seed: int = 0
    max_tokens: int | None = None


@dataclass(frozen=True)
class Sample:
    """What was sampled: token ids, with the stop token where one ended it, why it ended, and what it says.

    `finish` is stop (a stop token or string), length, or diverged (a logit was inf or nan). The text is
    without stop token and stop string.
    """

    tokens: tuple[int, ...]
    finish: str
    text: str


class Token(NamedTuple):
    """One new token of one row (its place among the requests), and the piece of text that became certain with it.

    `token` is None where a row ended without one (diverged). `finish` is None while the row goes on.
    """

    row: int
    token: int | None
    text: str
    finish: str | None
    projections: tuple[float, ...] = ()


@dataclass(frozen=True)
class Limits:
    """How texts are drawn and where they end."""

    max_tokens: int
    temperature: float
    stop: tuple[str, ...] = ()


def sample(
    model: Model,
    requests: Sequence[Request],
    max_tokens: int,
    temperature: float,
    work: Work,
    max_rows: int | None = None,
    stop: Sequence[str] = (),
) -> Iterator[tuple[int, Sample]]:
    """The index and the sample of each request, as they finish.

    At most `max_rows` are drawn together, or as many as memory has room for. A row's tokens depend on its own request
    alone. Raises InterventionError, PromptError for one that does not fit the
    model, before anything is computed.
    """
    limits = Limits(max_tokens, temperature, tuple(stop))
    requests = _fitting(model, requests)
    for members in _batches(model, requests, limits, max_rows):
        decoding = _Decoding(model, requests, members, limits, work, grow_texts=False)
        drawn: dict[int, list[Token]] = {row: [] for row in members}
        with model.memory.learning("sample", decoding.foreseen):
            while step := decoding.step():
                for token in step:
                    drawn[token.row].append(token)
                    if token.finish:
                        yield token.row, _sample(model, drawn.pop(token.row), limits)


def _sample(model: Model, drawn: Sequence[Token], limits: Limits) -> Sample:
    tokens = tuple(token.token for token in drawn if token.token is not None)
    finish = drawn[-1].finish or FULL
    if limits.stop:
        return Sample(tokens, finish, "".join(token.text for token in drawn))
    shown = tokens[:-1] if tokens and tokens[-1] in model.stop_tokens else tokens
    return Sample(tokens, finish, model.continuation(shown))


def stream(
    model: Model,
    requests: Sequence[Request],
    max_tokens: int,
    temperature: float = 0.0,
    stop: Sequence[str] = (),
    probes: Sequence[Probe] = (),
    work: Work | None = None,
    max_rows: int | None = None,
) -> "Stream":
    """Every token of every request as it is drawn. Raises as `sample` does, and for probes that do not fit.

    Rows take turns as far as memory has room for all of them; the others begin when rows have ended.
    """
    limits = Limits(max_tokens, temperature, tuple(stop))
    watch = Watch(model, probes) if probes else None
    requests = _fitting(model, requests)
    work = work or Work()
    batches = _batches(model, requests, limits, max_rows)
    decodings = [_Decoding(model, requests, members, limits, work, watch) for members in batches]
    room = model.memory.room("sample", model.memory.limit)
    at_once = sum(taken <= room for taken in itertools.accumulate(one.foreseen for one in decodings))
    return Stream(decodings, max(1, at_once))


class Stream(Iterator[Token]):
    """Tokens of several rows as they are drawn; rows can be cancelled. Closing it, or its `with`, ends all."""

    def __init__(self, decodings: "Sequence[_Decoding]", at_once: int) -> None:
        self._decodings, self._at_once = list(decodings), at_once
        self._cancelled: set[int] = set()
        self._tokens = self._drawn()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __next__(self) -> Token:
        return next(self._tokens)

    def cancel(self, row: int) -> None:
        """Draw no more tokens of that row; tokens that are under way are dropped."""
        self._cancelled.add(row)
        for decoding in self._decodings:
            decoding.cancel(row)

    def close(self) -> None:
        """End all rows and free what they hold."""
        self._tokens.close()
        self._decodings = []

    def _drawn(self) -> Generator[Token]:
        while self._decodings:
            for decoding in self._decodings[: self._at_once]:
                step = decoding.step()
                if not step:
                    self._decodings.remove(decoding)
                for token in step:
                    if token.row not in self._cancelled:
                        yield token


def _fitting(model: Model, requests: Sequence[Request]) -> list[Request]:
    return [replace(r, intervention=checked(model, r.tokens, r.intervention)) for r in requests]


def _batches(model: Model, requests: Sequence[Request], limits: Limits, max_rows: int | None) -> list[list[int]]:
    """Requests that run together: of one length, or of similar ones where the model's caches take them."""
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].tokens), requests[i].tokens))
    groups: list[list[int]] = []
    for i in order:
        length = len(requests[i].tokens)
        shortest = len(requests[groups[-1][0]].tokens) if groups else -1
        together = length <= 2 * shortest + 64 if model.abilities.mixed else length == shortest
        if groups and together:
            groups[-1].append(i)
        else:
            groups.append([i])
    ends = [max(_end(model, requests[i], limits) for i in group) for group in groups]
    sizes = [max_rows or model.memory.sampled(end) for end in ends]
    parts = [np.array_split(group, -(-len(group) // size)) for group, size in zip(groups, sizes, strict=True)]
    return [part.tolist() for of_group in parts for part in of_group]


def _end(model: Model, request: Request, limits: Limits) -> int:
    """How many tokens the request's prompt and text have at most."""
    return len(request.tokens) + _tokens_to_draw(model, request, limits)


@dataclass(frozen=True)
class _Ahead:
    """What a forward pass is going to give: logits (B, V), inf or nan in `sum` (B,) where they diverged, readings."""

    logits: mx.array
    sum: mx.array
    seen: dict[int, mx.array]

    def keep(self, rows: Sequence[int]) -> "_Ahead":
        index = mx.array(np.array(rows, np.int32))
        return _Ahead(self.logits[index], self.sum[index], {i: reading[index] for i, reading in self.seen.items()})


class _Decoding:
    """Some of the requests, decoded together. Finished rows leave the batch when a quarter of it is done.

    On a GPU the next pass is under way while the tokens of a step are looked at, so that the device never waits.
    """

    def __init__(
        self,
        model: Model,
        requests: Sequence[Request],
        members: Sequence[int],
        limits: Limits,
        work: Work,
        watch: Watch | None = None,
        grow_texts: bool = True,
    ) -> None:
        self._model, self._limits, self._work, self._watch = model, limits, work, watch
        self._requests = {row: requests[row] for row in members}
        self._ends = {row: _tokens_to_draw(model, request, limits) for row, request in self._requests.items()}
        self._rows = list(members)  # the request at each place of the batch
        self._running = set(members)
        self._texts = {
            row: GrowingText(model.continuation, limits.stop) for row in members if grow_texts or limits.stop
        }
        self._draws = Draws(limits.temperature, [requests[row].seed for row in members])
        self._ahead: _Ahead | None = None
        self._step = 0
        longest = max(_end(model, request, limits) for request in self._requests.values())
        self.foreseen = model.memory.sampled_bytes(len(members), longest)  # bytes

    def cancel(self, row: int) -> None:
        """Draw no more tokens of that request."""
        self._running.discard(row)

    def step(self) -> list[Token]:
        """The next token of every row that runs; none at the end."""
        if self._step == 0 and self._running and any(self._ends.values()):
            self._begin()
        if self._ahead is None or not self._running:
            self._ahead = None
            return []
        ahead, self._ahead = self._ahead, None
        drawn = self._draws(ahead.logits, self._step)  # (B,)
        last = self._step + 1 >= max(self._ends[row] for row in self._running)
        if not (last or on_cpu()):
            mx.async_eval(drawn)  # in a batch of its own: waiting for it is then not waiting for the pass to come
            self._forward(drawn, self._step + 1)
        mx.eval(drawn, ahead.sum, ahead.seen)
        sound = np.isfinite(np.array(ahead.sum)).tolist()
        tokens = self._tokens(np.array(drawn).tolist(), sound, _readings(ahead))
        self._step += 1
        drawn = self._compacted(drawn)
        if not last and on_cpu() and self._running:
            self._forward(drawn, self._step)
        return tokens

    def _begin(self) -> None:
        requests = list(self._requests.values())
        prompts, interventions = [r.tokens for r in requests], [r.intervention for r in requests]
        self._batch = read(self._model, prompts, interventions, self._work, max(self._ends.values()))
        self._forward(self._batch.last, 0)

    def _forward(self, tokens: mx.array, step: int) -> None:
        """Start the pass over every row's newest token."""
        edits, seen = self._watch.look() if self._watch else ({}, {})
        squares: list[mx.array] = []
        if self._batch.steering.layers:
            last = self._model.identity.n_layers - 1
            edits = behind({last: lambda h: _squared_into(squares, h)}, edits)
        logits = advance(self._model, self._batch, tokens, step, self._work, edits)
        total = sum(squares, logits[:, 0]).astype(mx.float32)  # a stream with inf or nan makes every logit nan
        self._ahead = _Ahead(logits, total, seen)
        mx.async_eval(self._ahead.logits, self._ahead.sum, seen)

    def _compacted(self, drawn: mx.array) -> mx.array:
        """Have rows that are done leave the batch, where they are a quarter of it; the tokens of those that stay."""
        staying = [place for place, row in enumerate(self._rows) if row in self._running]
        if not staying or 4 * len(staying) > 3 * len(self._rows):
            return drawn
        self._rows = [self._rows[place] for place in staying]
        self._batch = self._batch.keep(staying)
        self._draws.keep(staying)
        if self._ahead:
            self._ahead = self._ahead.keep(staying)
        return drawn[mx.array(np.array(staying, np.int32))]

    def _tokens(self, drawn: list[int], sound: list[bool], readings: list[tuple[float, ...]]) -> list[Token]:
        """One token of every running row, with why it ended where it did."""
        tokens = []
        for place, row in enumerate(self._rows):
            if row in self._running:
                token = drawn[place] if sound[place] else None
                piece, finish = self._piece(row, token)
                tokens.append(Token(row, token, piece, finish, readings[place]))
                if finish:
                    self._running.discard(row)
        return tokens

    def _piece(self, row: int, token: int | None) -> tuple[str, str | None]:
        """The text that became certain with a row's token, and why the row ends with it."""
        text = self._texts.get(row)
        if token is None:
            return text.end() if text else "", DIVERGED
        if token in self._model.stop_tokens:
            return text.end() if text else "", STOPPED
        piece = text.add(token) if text else ""
        if text and text.stopped:
            return piece, STOPPED
        if self._step + 1 >= self._ends[row]:
            return piece + (text.end() if text else ""), FULL
        return piece, None


def _tokens_to_draw(model: Model, request: Request, limits: Limits) -> int:
    """How many tokens end a request: its own limit or all requests', or what the model's context has room for."""
    wanted = limits.max_tokens if request.max_tokens is None else min(request.max_tokens, limits.max_tokens)
    context = model.identity.context
    return min(wanted, max(1, context - len(request.tokens))) if context else wanted


def _squared_into(squares: list[mx.array], h: mx.array) -> mx.array:
    """Keep the stream's squared norm (B,): where it overflows, a norm layer makes harmless-looking zeros of it."""
    last = h[:, -1]
    squares.append(mx.square(last.astype(mx.float32) if last.dtype == mx.float16 else last).sum(axis=-1))
    return h


def _readings(ahead: _Ahead) -> list[tuple[float, ...]]:
    """The probes' readings at each row's newest token."""
    columns = [np.array(ahead.seen[i])[:, -1].tolist() for i in range(len(ahead.seen))]
    return list(zip(*columns, strict=True)) if columns else [()] * ahead.logits.shape[0]
