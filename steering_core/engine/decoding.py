"""`Decoding`: requests that are decoded together, a token of every row a step; rows leave it, and may join it.

Each row has its own steering, recipe, limits, probes and count of steps, so that what it draws depends on its own
request alone, whenever it joined. Finished rows leave the batch when a quarter of it is done. Where tokens can be drawn
without looking at logits, the next pass is under way while the tokens of a step are looked at, so that no device waits.
Elsewhere, and for the first token of a text on a CPU, a step's tokens are handed on before the next pass is begun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.draws import DrawnTokens, Draws, LikelyToken, likeliest_of
from steering_core.engine.forward import Batch, advance, read
from steering_core.engine.growing_text import GrowingText
from steering_core.engine.joining import joined
from steering_core.engine.prefixes import Prefixes, row_of
from steering_core.engine.probes import Probe, ProbeValues, Watch
from steering_core.engine.requests import DIVERGED, FULL, STOPPED, Limits, Request, Token
from steering_core.foundation.counting import Work
from steering_core.models import Model
from steering_core.models.taps import merged
from steering_core.models.turns import Following


@dataclass(frozen=True)
class _Ahead:
    """What the forward pass under way will give: logits (B, V), and what each probe reads.

    `sum` (B,) is inf or nan in rows that diverged, and a meaningless number in all others.
    """

    logits: mx.array
    sum: mx.array
    seen: ProbeValues

    def keep(self, rows: Sequence[int]) -> "_Ahead":
        """What the pass gives for some of its rows."""
        index = mx.array(np.array(rows, np.int32))
        return _Ahead(self.logits[index], self.sum[index], {p: reading[index] for p, reading in self.seen.items()})

    def __add__(self, other: "_Ahead") -> "_Ahead":
        """The rows of both; a probe of one side alone read nothing of the other."""
        one, two = self.sum.shape[0], other.sum.shape[0]
        probes = dict.fromkeys([*self.seen, *other.seen])
        seen = {p: mx.concatenate([_reading(self.seen, p, one), _reading(other.seen, p, two)]) for p in probes}
        logits = mx.concatenate([self.logits, other.logits])
        return _Ahead(logits, mx.concatenate([self.sum, other.sum]), seen)


def _reading(seen: ProbeValues, probe: Probe, rows: int) -> mx.array:
    return seen[probe] if probe in seen else mx.zeros((rows, 1))


class _NextPass(Enum):
    """When a step begins the pass over the tokens that it draws.

    AT_ONCE: before anybody looks at the tokens. AFTER_TOKENS: when they were looked at, before the step hands them on.
    NEXT_STEP: after they were handed on. NEVER: they are the last ones.
    """

    AT_ONCE = auto()
    AFTER_TOKENS = auto()
    NEXT_STEP = auto()
    NEVER = auto()


class Decoding:
    """Requests whose interventions were checked (`forward.checked`), decoded together.

    With `grow_texts` each token brings its piece of text. When a row ends, `prefixes`, where given, keep its cache.
    """

    def __init__(
        self,
        model: Model,
        requests: Mapping[int, Request],
        limits: Limits,
        work: Work,
        grow_texts: bool = True,
        prefixes: Prefixes | None = None,
    ) -> None:
        self._model, self._work, self._prefixes = model, work, prefixes
        self._drawn: dict[int, list[int]] = {row: [] for row in requests}
        self._requests = dict(requests)
        self._ends = {row: limits.to_draw(model, request) for row, request in requests.items()}
        self._rows = list(requests)  # the request at each place of the batch
        self._steps = np.zeros(len(requests), int)  # tokens drawn at each place
        self._running = set(requests)
        stops = {row: limits.stops(request) for row, request in requests.items()}
        self._texts = {row: GrowingText(model.continuation, stop) for row, stop in stops.items() if grow_texts or stop}
        members = list(requests.values())
        reports = [request.logprobs is not None for request in members]
        recipes, seeds = [limits.recipe(request) for request in members], [request.seed for request in members]
        self._following = {row: _following(model, request) for row, request in requests.items() if _moves(request)}
        self._draws = Draws(recipes, seeds, [request.tokens for request in members], reports)
        self._ahead: _Ahead | None = None
        self._newest: mx.array | None = None  # every place's token, where the pass over them is left to the next step
        self._batch: Batch | None = None
        self._watch_probes()
        longest = max(limits.end(model, request) for request in members)
        self.foreseen = model.memory.sampled_bytes(len(members), longest)  # bytes

    def __len__(self) -> int:
        return len(self._running)

    def cancel(self, row: int) -> None:
        """Draw no more tokens of that request."""
        self._running.discard(row)

    def begin(self, batch: Batch | None = None) -> None:
        """Read the prompts, or go on from `batch`, in which they are read."""
        requests = list(self._requests.values())
        prompts, interventions = [r.tokens for r in requests], [r.intervention for r in requests]
        longest = max(self._ends.values())
        self._batch = batch or read(self._model, prompts, interventions, self._work, longest)
        self._forward(self._batch, self._batch.last, 0)

    def join(self, other: "Decoding") -> None:
        """Have the rows of `other`, which has begun, run in this batch from the next step on."""
        assert self._batch is not None and other._batch is not None, "both have begun"  # noqa: PT018
        self._go_on()
        if self._ahead is None or other._ahead is None:
            raise ValueError("a decoding that has ended takes no rows")
        self._compact(0)
        self._batch = joined(self._batch, other._batch)
        self._ahead = self._ahead + other._ahead
        self._draws.join(other._draws)
        self._rows += other._rows
        self._steps = np.concatenate([self._steps, other._steps])
        self._running |= other._running
        self._requests |= other._requests
        self._ends |= other._ends
        self._texts |= other._texts
        self._drawn |= other._drawn
        self._following |= other._following
        self._watch_probes()

    def step(self) -> list[Token]:
        """The next token of every row that runs; none at the end."""
        if self._batch is None and self._running and any(self._ends.values()):
            self.begin()
        self._go_on()
        if self._ahead is None or not self._running or self._batch is None:
            self._ahead = None
            return []
        ahead, self._ahead = self._ahead, None
        drawn = self._draws(ahead.logits)
        when = self._next_pass
        if when is _NextPass.AT_ONCE:
            mx.async_eval(drawn.tokens)  # by themselves, so that waiting for them is not waiting for the next pass
            self._forward(self._batch, drawn.tokens, self._steps + 1)
        mx.eval(drawn.tokens, ahead.sum, list(ahead.seen.values()))
        tokens = self._tokens(drawn, ahead)
        self._steps += 1
        staying = self._compact(0.75)
        if when in (_NextPass.AFTER_TOKENS, _NextPass.NEXT_STEP) and self._running:
            self._newest = drawn.tokens[staying]
            if when is _NextPass.AFTER_TOKENS:
                self._go_on()
        return tokens

    @property
    def _next_pass(self) -> _NextPass:
        """When the pass over the tokens that are being drawn begins.

        On a CPU beginning a pass takes about as long as the pass, and a text's first token should not wait for that.
        """
        steps = [int(step) for row, step in zip(self._rows, self._steps, strict=True) if row in self._running]
        ends = [self._ends[row] for row in self._rows if row in self._running]
        if all(step + 1 >= end for step, end in zip(steps, ends, strict=True)):
            return _NextPass.NEVER
        needs_tokens = bool(self._following) or not self._draws.lazy
        if on_cpu():
            return _NextPass.NEXT_STEP if needs_tokens or 0 in steps else _NextPass.AT_ONCE
        return _NextPass.AFTER_TOKENS if needs_tokens else _NextPass.AT_ONCE

    def _go_on(self) -> None:
        """Start the pass over the newest tokens, where the last step did not."""
        if self._newest is not None and self._batch is not None and self._running:
            self._forward(self._batch, self._newest, self._steps)
        self._newest = None

    def _forward(self, batch: Batch, tokens: mx.array, step: int | np.ndarray) -> None:
        """Start the pass over every row's newest token."""
        edits, seen = self._watch.look() if self._watch else ({}, {})
        squares: list[mx.array] = []
        if batch.steering.layers:
            last = self._model.identity.n_layers - 1
            edits = merged({last: lambda h: _squared_into(squares, h)}, edits)
        labels = [self._following[row].label if row in self._following else None for row in self._rows]
        turns = labels if self._following else None
        logits = advance(self._model, batch, tokens, step, self._work, edits, turns)
        total = sum(squares, logits[:, 0]).astype(mx.float32)  # a stream with inf or nan makes every logit nan
        self._ahead = _Ahead(logits, total, seen)
        mx.async_eval(self._ahead.logits, self._ahead.sum, list(seen.values()))

    def _watch_probes(self) -> None:
        """Have the passes to come read the probes of all rows."""
        probes = [probe for row in self._rows for probe in self._requests[row].probes]
        self._watch = Watch(self._model, probes) if probes else None

    def _compact(self, share: float) -> mx.array:
        """Take finished rows out of the batch, unless more than `share` of it would stay (0: always).

        Returns the places that stay, (B',), as they were numbered before.
        """
        staying = [place for place, row in enumerate(self._rows) if row in self._running]
        enough = len(staying) == len(self._rows) or (share and len(staying) > share * len(self._rows))
        if not staying or enough:
            return mx.arange(len(self._rows))
        self._rows = [self._rows[place] for place in staying]
        self._steps = self._steps[staying]
        self._batch = self._batch and self._batch.keep(staying)
        self._draws.keep(staying)
        if self._ahead:
            self._ahead = self._ahead.keep(staying)
        return mx.array(np.array(staying, np.int32))

    def _tokens(self, drawn: DrawnTokens, ahead: _Ahead) -> list[Token]:
        """One token of every running row, with why it ended where it did."""
        tokens = []
        ids, sound = np.array(drawn.tokens).tolist(), np.isfinite(np.array(ahead.sum)).tolist()
        readings = {probe: np.array(values)[:, -1] for probe, values in ahead.seen.items()}
        for place, row in enumerate(self._rows):
            if row not in self._running:
                continue
            token = ids[place] if sound[place] else None
            piece, finish = self._piece(row, token, int(self._steps[place]))
            request = self._requests[row]
            seen = tuple(float(readings[probe][place]) for probe in request.probes)
            logs = _log_probabilities(drawn, place, request.logprobs) if token is not None else (None, ())
            tokens.append(Token(row, token, piece, finish, seen, *logs))
            if token is not None:
                self._drawn[row].append(token)
                if row in self._following:
                    self._following[row].add(token)
            if finish:
                self._running.discard(row)
                if token is not None:
                    self._keep(row, place)
        return tokens

    def _keep(self, row: int, place: int) -> None:
        """Have the prefixes keep a row's cache with the tokens in it: its prompt, and drawn tokens that were read."""
        if self._prefixes is None or self._batch is None:
            return
        request = self._requests[row]
        read = len(request.tokens) + int(self._steps[place])
        if self._ahead is not None:  # a pass over the newest token is under way
            read += 1
        tokens = (*request.tokens, *self._drawn[row])[:read]
        kept = row_of(self._batch.cache, place)
        self._prefixes.keep(tokens, len(request.tokens), request.intervention, kept)

    def _piece(self, row: int, token: int | None, step: int) -> tuple[str, str | None]:
        """The text that became certain with a row's token, and why the row ends with it."""
        text = self._texts.get(row)
        if token is None:
            return text.end() if text else "", DIVERGED
        if token in self._model.stop_tokens:
            return text.end() if text else "", STOPPED
        piece = text.add(token) if text else ""
        if text and text.stopped:
            return piece, STOPPED
        if step + 1 >= self._ends[row]:
            return piece + (text.end() if text else ""), FULL
        return piece, None


def _moves(request: Request) -> bool:
    """Whether the tokens that a row draws decide where it is steered."""
    return any(change.where.moves for change in request.intervention.changes)


def _following(model: Model, request: Request) -> Following:
    """What tells the phase of a row's new tokens: response, thinking or tool."""
    labels = next(change.where.labels for change in request.intervention.changes if change.where.moves)
    assert labels is not None, "changes that move are labelled"
    return model.turns.following(labels.phases[-1])


def _log_probabilities(
    drawn: DrawnTokens, place: int, likeliest: int | None
) -> tuple[float | None, tuple[LikelyToken, ...]]:
    """The log-probability of a row's token, and of its likeliest ones, the likeliest first."""
    if likeliest is None or drawn.log_probabilities is None:
        return None, ()
    values = np.array(drawn.log_probabilities[place])  # (V,)
    token = int(np.array(drawn.tokens)[place])
    return float(values[token]), likeliest_of(values, likeliest)


def _squared_into(squares: list[mx.array], h: mx.array) -> mx.array:
    """Append the squared norm (B,) of the stream at the last position to `squares`, and return the stream.

    An infinite norm has to be seen here: the network's last norm layer divides by it, and gives ordinary-looking zeros.
    """
    last = h[:, -1]
    squares.append(mx.square(last.astype(mx.float32) if last.dtype == mx.float16 else last).sum(axis=-1))
    return h
