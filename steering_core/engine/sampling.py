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
from dataclasses import replace
from types import TracebackType

import numpy as np

from steering_core.engine.decoding import Decoding
from steering_core.engine.forward import checked
from steering_core.engine.probes import Probe, Watch
from steering_core.engine.recipes import Recipe
from steering_core.engine.requests import DIVERGED, FULL, STOPPED, Limits, Request, Sample, Token, read_together
from steering_core.foundation.counting import Work
from steering_core.models import Model


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
    alone. Raises InterventionError, PromptError for a request that does not fit the model, before anything is computed.
    """
    limits = Limits(max_tokens, temperature, tuple(stop))
    requests = _fitting(model, requests)
    for members in _batches(model, requests, limits, max_rows):
        decoding = Decoding(model, {row: requests[row] for row in members}, limits, work, grow_texts=False)
        drawn: dict[int, list[Token]] = {row: [] for row in members}
        with model.memory.learning("sample", decoding.foreseen):
            while step := decoding.step():
                for token in step:
                    drawn[token.row].append(token)
                    if token.finish:
                        yield token.row, _sample(model, drawn.pop(token.row), limits.stops(requests[token.row]))


def _sample(model: Model, drawn: Sequence[Token], stop: Sequence[str]) -> Sample:
    tokens = tuple(token.token for token in drawn if token.token is not None)
    finish = drawn[-1].finish or FULL
    if stop:
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
    Watch(model, probes)  # raises for what does not fit
    requests = [replace(r, probes=r.probes or tuple(probes)) for r in _fitting(model, requests)]
    work = work or Work()
    batches = _batches(model, requests, limits, max_rows)
    decodings = [Decoding(model, {row: requests[row] for row in members}, limits, work) for members in batches]
    room = model.memory.room("sample", model.memory.limit)
    at_once = sum(taken <= room for taken in itertools.accumulate(one.foreseen for one in decodings))
    return Stream(decodings, max(1, at_once))


class Stream(Iterator[Token]):
    """Tokens of several rows as they are drawn; rows can be cancelled. Closing it, or its `with`, ends all."""

    def __init__(self, decodings: Sequence[Decoding], at_once: int) -> None:
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
    groups = read_together(dict(enumerate(requests)), model.abilities.mixed)
    ends = [max(limits.end(model, requests[i]) for i in group) for group in groups]
    sizes = [max_rows or model.memory.sampled(end) for end in ends]
    parts = [np.array_split(group, -(-len(group) // size)) for group, size in zip(groups, sizes, strict=True)]
    return [part.tolist() for of_group in parts for part in of_group]


__all__ = ["DIVERGED", "FULL", "STOPPED", "Recipe", "Request", "Sample", "Stream", "Token", "sample", "stream"]
