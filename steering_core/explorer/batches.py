"""`ServedBatch`: one model's requests that are sampled together; they join when they come, and leave when done."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steering_core.engine.draws import LikelyToken
from steering_core.engine.prefixes import Prefixes
from steering_core.engine.probes import Probe
from steering_core.engine.recipes import Recipe
from steering_core.engine.requests import Request, Token
from steering_core.engine.running import Running
from steering_core.explorer.faults import error_event
from steering_core.foundation.json_values import plain
from steering_core.models import Model

Event = dict[str, Any]
"""queued (position), start (about), token (row, text, projections, finish, …), done (seconds), error (message, …)."""


@dataclass(frozen=True)
class RequestedRows:
    """What a request wants sampled; `about` goes out with its start. The probes read every row."""

    requests: Sequence[Request]
    probes: Sequence[Probe] = ()
    about: Event = field(default_factory=dict)


@dataclass(frozen=True)
class BatchSampling:
    """How a request's texts are drawn, where its rows do not say otherwise. No limit is that of the model's context."""

    model: str
    max_tokens: int | None
    temperature: float
    stop: tuple[str, ...] = ()

    def of(self, request: Request, probes: Sequence[Probe]) -> Request:
        """A row, drawn in this way."""
        recipe = request.recipe or Recipe(self.temperature)
        return replace(request, recipe=recipe, stop=self.stop, max_tokens=self.max_tokens, probes=tuple(probes))


@dataclass(eq=False)
class SamplingJob:
    """A request for texts: `rows` is asked on the accelerator's thread, `tell` hears every event there."""

    sampling: BatchSampling
    rows: Callable[[Model], RequestedRows]
    tell: Callable[[Event], object]
    cancelled: bool = False
    position: int | None = None


@dataclass(eq=False)
class _Member:
    """A request in the batch, and which rows of it are its own."""

    texts: SamplingJob
    rows: range
    unfinished: set[int]
    drawn: dict[int, int] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)


class ServedBatch:
    """The requests of one model; `open_model` opens it, and its texts go on from what `prefixes` says is known."""

    def __init__(self, model: str, open_model: Callable[[str], Model], prefixes: Callable[[Model], Prefixes]) -> None:
        self.model = model
        self._open, self._prefixes = open_model, prefixes
        self._members: list[_Member] = []
        self._running: Running | None = None
        self._numbers = itertools.count()

    @property
    def rows(self) -> int:
        """How many rows still grow."""
        return sum(len(member.unfinished) for member in self._members)

    def add(self, job: SamplingJob) -> None:
        """Have a request's rows run from the next step on; what is wrong with it, it is told."""
        with _errors_to(job):
            model = self._open(self.model)
            if self._running is None:
                self._running = Running(model, self._prefixes(model))
            wanted = job.rows(model)
            if self._nothing_drawn(job, wanted):
                return
            requests = [job.sampling.of(request, wanted.probes) for request in wanted.requests]
            numbered = {next(self._numbers): request for request in requests}
            self._running.add(numbered)
            own = range(min(numbered), max(numbered) + 1) if numbered else range(0)
            self._members.append(_Member(job, own, set(own)))
            job.tell({"event": "start", **wanted.about})

    def _nothing_drawn(self, job: SamplingJob, wanted: RequestedRows) -> bool:
        """Whether a request wants no token: it is answered at once."""
        if job.sampling.max_tokens != 0:
            return False
        job.tell({"event": "start", **wanted.about})
        job.tell({"event": "done", "tokens": [], "seconds": 0.0})
        return True

    def step(self) -> bool:
        """A token of every row; whether there is more to come."""
        assert self._running is not None, "a batch without members is not run"
        try:
            for member in [m for m in self._members if m.texts.cancelled]:
                self._drop(member)
            for token in self._running.step():
                self._hand_on(token)
        except Exception as error:  # noqa: BLE001  (everybody in the batch is told, and it is logged)
            self._fail(error)
        if not self.rows:
            self.close()
        return self.rows > 0

    def close(self) -> None:
        """Free what the batch holds."""
        if self._running:
            self._running.close()

    def _hand_on(self, token: Token) -> None:
        member = next((m for m in self._members if token.row in m.unfinished), None)
        if member is None:
            return
        member.drawn[token.row] = member.drawn.get(token.row, 0) + 1
        row = token.row - member.rows.start
        event = {"event": "token", "row": row, "text": token.text, "projections": token.projections}
        if token.logprob is not None:
            event["logprobs"] = self._logprobs(token)
        member.texts.tell({**event, "finish": token.finish})
        if token.finish:
            member.unfinished.discard(token.row)
        if not member.unfinished:
            self._members.remove(member)
            drawn = [member.drawn[row] for row in member.rows]
            member.texts.tell({"event": "done", "tokens": drawn, "seconds": time.perf_counter() - member.started})

    def _logprobs(self, token: Token) -> Event | None:
        """What was drawn and how likely it was, beside the likeliest, in words; nothing for the end of a text."""
        assert self._running is not None, "a token comes of a batch"
        model = self._running.model
        if token.token is None or token.token in model.stop_tokens:
            return None
        return told_token(model, token.token, token.logprob, token.likeliest)

    def _drop(self, member: _Member) -> None:
        self._members.remove(member)
        for row in member.unfinished:
            if self._running:
                self._running.cancel(row)

    def _fail(self, error: Exception) -> None:
        for member in self._members:
            with _errors_to(member.texts):
                raise error
        self._members.clear()


def told_token(model: Model, token: int, logprob: float | None, likeliest: Iterable[LikelyToken] = ()) -> Event:
    """A token in words, with its bytes and how likely it was, beside the likeliest ones."""
    shown = {"token": model.continuation([token]), "bytes": model.token_bytes(token), "logprob": plain(logprob)}
    return {**shown, "likeliest": [told_token(model, *other) for other in likeliest]}


class _errors_to:  # noqa: N801  (reads as the statement that it is)
    """Send a request what goes wrong inside the `with`, as its event `error`, and go on."""

    def __init__(self, texts: SamplingJob) -> None:
        self._texts = texts

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self._texts.tell(error_event(error))
        return True
