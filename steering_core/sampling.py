"""Sampling: new tokens for a batch, every row under its own intervention."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.backend import mx
from steering_core.engine import Cache, Work, fork, forward, prefill, sampler
from steering_core.interventions.change import Intervention, first_position
from steering_core.interventions.steering import Steering
from steering_core.models import Model

DIVERGED, STOPPED, FULL = "diverged", "stop", "length"


@dataclass(frozen=True)
class Request:
    """One text to sample: a prompt's tokens, what is done to the residual stream, and the seed of its randomness."""

    tokens: tuple[int, ...]
    intervention: Intervention = Intervention()
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """What was sampled: token ids, with the stop token where one ended it, and why it ended."""

    tokens: tuple[int, ...]
    finish: str


def sample(
    model: Model, requests: Sequence[Request], max_tokens: int, temperature: float, work: Work, max_rows: int = 64
) -> Iterator[tuple[int, Sample]]:
    """The index and the sample of each request, as batches finish. Requests with prompts of one length run together.

    A row's tokens depend on its own request alone. Raises InterventionError for one that does not fit the model.
    """
    by_length: dict[int, list[int]] = {}
    for i, request in enumerate(requests):
        request.intervention.check(model.identity.n_layers, model.identity.width)
        by_length.setdefault(len(request.tokens), []).append(i)
    for members in by_length.values():
        for begin in range(0, len(members), max_rows):
            chunk = members[begin : begin + max_rows]
            samples = _Batch(model, [requests[i] for i in chunk], max_tokens, temperature, work).run()
            yield from zip(chunk, samples, strict=True)


class _Batch:
    """Requests whose prompts have one length, decoded together; finished rows leave the batch."""

    def __init__(
        self, model: Model, requests: Sequence[Request], max_tokens: int, temperature: float, work: Work
    ) -> None:
        self.model, self.work, self.max_tokens, self.temperature = model, work, max_tokens, temperature
        self.requests = list(requests)
        self.prompt_length = len(requests[0].tokens)
        self.rows = list(range(len(requests)))  # the requests still in the batch
        self.tokens: list[list[int]] = [[] for _ in requests]
        self.finish = [FULL] * len(requests)
        self._arrange()

    def _arrange(self) -> None:
        kept = [self.requests[r] for r in self.rows]
        self.steering = Steering([r.intervention for r in kept], [self.prompt_length] * len(kept))
        self.draw = sampler(self.temperature, [r.seed for r in kept])

    def run(self) -> list[Sample]:
        """Sample every row to its end."""
        cache, logits = self._prefilled()
        for step in range(self.max_tokens):
            drawn = self.draw(logits, step)  # (B,)
            finite = mx.isfinite(logits.max(axis=-1))
            mx.eval(drawn, finite)
            staying = self._take(np.array(drawn).tolist(), np.array(finite).tolist())
            if not staying or step + 1 == self.max_tokens:
                break
            if len(staying) < len(self.rows):
                self.rows = [self.rows[place] for place in staying]
                self._arrange()
                cache, drawn = fork(cache, staying), drawn[mx.array(staying)]
            offset = self.prompt_length + step
            logits = forward(self.model, drawn[:, None], cache, self.steering, offset)[:, -1]
            self.work.add(len(self.rows), 1)
        return [Sample(tuple(tokens), finish) for tokens, finish in zip(self.tokens, self.finish, strict=True)]

    def _prefilled(self) -> tuple[Cache, mx.array]:
        """The cache after the prompts and the logits (B, V) of their last tokens; what rows share is run once."""
        prompts = list(dict.fromkeys(r.tokens for r in self.requests))
        first = first_position([r.intervention for r in self.requests], self.prompt_length)
        shared = int(min(first, self.prompt_length - 1))
        rows = [prompts.index(r.tokens) for r in self.requests]
        cache = prefill(self.model, [prompt[:shared] for prompt in prompts], rows, self.work)
        rest = mx.array([r.tokens[shared:] for r in self.requests])
        logits = forward(self.model, rest, cache, self.steering, shared)[:, -1]
        self.work.add(*rest.shape)
        return cache, logits

    def _take(self, drawn: list[int], finite: list[bool]) -> list[int]:
        """Append each row's token; the places in the batch of the rows that go on."""
        staying = []
        for place, (row, token, is_finite) in enumerate(zip(self.rows, drawn, finite, strict=True)):
            if not is_finite:
                self.finish[row] = DIVERGED
                continue
            self.tokens[row].append(token)
            if token in self.model.stop_tokens:
                self.finish[row] = STOPPED
            else:
                staying.append(place)
        return staying
