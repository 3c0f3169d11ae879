"""`Accelerator`: the one thread that owns every model, and what waits for it.

MLX evaluates nothing across threads, and one device serves all tabs. So requests wait in a fair queue; up to `STREAMS`
run at once, a token of each in turn, and those that wait for the same model and sampling start as one batch, in which
every row is what it would be alone. What nobody waits for any more is dropped, before it starts or in the middle.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from steering_core.engine.probes import Probe
from steering_core.engine.sampling import Request, Stream, Token, stream
from steering_core.explorer.models import OpenModels
from steering_core.explorer.queue import Busy, FairQueue
from steering_core.foundation.errors import SteerflowError
from steering_core.models import Model

log = logging.getLogger(__name__)
T = TypeVar("T")

STREAMS = 2  # that take turns on the device
WAITING = 64  # requests; more are refused
_BUSY = f"{WAITING} requests wait for the accelerator already: try again in a moment"

Event = dict[str, Any]
"""queued (position), start (about), token (row, text, projections, finish), done (seconds), or error (message)."""


@dataclass(frozen=True)
class Rows:
    """What a request wants sampled; `about` goes out with its start."""

    requests: Sequence[Request]
    probes: Sequence[Probe] = ()
    about: Event = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """How a request's texts are drawn. Requests of one model that agree in `batch` may run together."""

    model: str
    max_tokens: int
    temperature: float
    stop: tuple[str, ...] = ()

    @property
    def batch(self) -> tuple[Any, ...]:
        """What must be the same in all rows of a batch."""
        return (self.model, self.temperature, self.stop)


@dataclass(eq=False)
class Texts:
    """A request for texts: `rows` is asked on the accelerator's thread, `tell` hears every event there."""

    sampling: Sampling
    rows: Callable[[Model], Rows]
    tell: Callable[[Event], object]
    cancelled: bool = False
    position: int | None = None


@dataclass(eq=False)
class Call:
    """A function of an open model, to be run between two tokens."""

    model: str
    function: Callable[[Model], Any]
    result: Future[Any] = field(default_factory=Future)


class Accelerator:
    """Runs texts and calls, as they were asked for, on a thread of its own between `start` and `stop`."""

    def __init__(self, models: OpenModels) -> None:
        self.models = models
        self._queue: FairQueue[Texts | Call] = FairQueue(WAITING)
        self._running: list[_Batch] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="accelerator", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Drop everything and close the models."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, client: str, texts: Texts) -> None:
        """Have `texts` sampled when it is `client`'s turn. Raises Busy where too many wait."""
        self._put(client, texts)

    def call(self, client: str, model: str, function: Callable[[Model], T]) -> "Future[T]":
        """The result of `function(model)`, run on the accelerator's thread. Raises Busy where too many wait."""
        call = Call(model, function)
        self._put(client, call)
        return call.result

    def cancel(self, texts: Texts) -> None:
        """Sample no more of `texts`."""
        texts.cancelled = True
        with self._changed:
            if self._queue.remove(texts):
                self._tell_positions()

    def state(self) -> Event:
        """What is going on."""
        with self._changed:
            rows = sum(batch.rows for batch in self._running)
            return {"waiting": len(self._queue), "running": rows, "models": self.models.loaded()}

    # -- everything below but `_put` runs on the accelerator's thread ------------------------------------------------

    def _put(self, client: str, job: Texts | Call) -> None:
        with self._changed:
            if self._stopping or not self._queue.put(client, job):
                raise Busy(_BUSY)
            self._tell_positions()
            self._changed.notify()

    def _tell_positions(self) -> None:
        for place, job in enumerate(self._queue, start=len(self._running) and 1):
            if isinstance(job, Texts) and job.position != place:
                job.position = place
                job.tell({"event": "queued", "position": place})

    def _run(self) -> None:
        while not self._stopping:
            for job in self._next():
                self._begin(job)
            for batch in list(self._running):
                if not batch.step():
                    self._running.remove(batch)
        for batch in self._running:
            batch.close()
        self.models.close()

    def _next(self) -> Iterator[Call | list[Texts]]:
        """What may begin now; waits for it where nothing runs."""
        with self._changed:
            while not self._running and not len(self._queue) and not self._stopping:
                self._changed.wait()
            free = STREAMS - len(self._running)
            found: Call | list[Texts] | None = None
            job = self._queue.take(lambda job: isinstance(job, Call) or free > 0)
            if isinstance(job, Call):
                found = job
            elif job is not None:
                found = [job]
                while other := self._queue.take(lambda other: _may_join(other, job)):
                    found.append(other)  # type: ignore[arg-type]  # _may_join lets Texts through alone
            self._tell_positions()
        if found is not None:
            yield found

    def _begin(self, job: Call | list[Texts]) -> None:
        if isinstance(job, list):
            batch = _Batch(job, self._open)
            if batch.rows:
                self._running.append(batch)
        elif job.result.set_running_or_notify_cancel():
            try:
                job.result.set_result(job.function(self._open(job.model)))
            except Exception as error:  # noqa: BLE001  (the future carries it to whoever waits)
                job.result.set_exception(error)

    def _open(self, name: str) -> Model:
        return self.models.open(name, {batch.model for batch in self._running})


def _may_join(other: Texts | Call, first: Texts) -> bool:
    return isinstance(other, Texts) and other.sampling.batch == first.sampling.batch


@dataclass
class _Member:
    """A request in a batch, and which rows and probes of it are its own."""

    texts: Texts
    rows: range
    probes: range
    unfinished: set[int]
    drawn: dict[int, int] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)


class _Batch:
    """Requests that are sampled together."""

    def __init__(self, jobs: Sequence[Texts], open_model: Callable[[str], Model]) -> None:
        self._members: list[_Member] = []
        self._stream: Stream | None = None
        requests: list[Request] = []
        probes: list[Probe] = []
        sampling = jobs[0].sampling
        self.model = sampling.model
        for job in jobs:
            with _told(job):
                model = open_model(sampling.model)
                wanted = job.rows(model)
                own = range(len(requests), len(requests) + len(wanted.requests))
                seen = range(len(probes), len(probes) + len(wanted.probes))
                stream(model, wanted.requests, 1, probes=wanted.probes).close()  # raises for what does not fit
                requests += [replace(r, max_tokens=job.sampling.max_tokens) for r in wanted.requests]
                probes += wanted.probes
                self._members.append(_Member(job, own, seen, set(own)))
                job.tell({"event": "start", **wanted.about})
        if self._members:
            longest = max(member.texts.sampling.max_tokens for member in self._members)
            self._stream = stream(model, requests, longest, sampling.temperature, sampling.stop, probes)

    @property
    def rows(self) -> int:
        """How many rows still grow."""
        return sum(len(member.unfinished) for member in self._members)

    def step(self) -> bool:
        """About a token of every row; whether there is more to come."""
        assert self._stream is not None, "a batch without members is not run"
        try:
            for member in [m for m in self._members if m.texts.cancelled]:
                self._drop(member)
            for _ in range(self.rows):
                token = next(self._stream, None)
                if token is None:
                    break
                self._hand_on(token)
        except Exception as error:  # noqa: BLE001  (everybody in the batch is told, and it is logged)
            self._fail(error)
        if not self.rows:
            self.close()
        return self.rows > 0

    def close(self) -> None:
        """Free what the batch holds."""
        if self._stream:
            self._stream.close()

    def _hand_on(self, token: Token) -> None:
        member = next((m for m in self._members if token.row in m.unfinished), None)
        if member is None:
            return
        member.drawn[token.row] = member.drawn.get(token.row, 0) + 1
        own = token.projections[member.probes.start : member.probes.stop]
        row = token.row - member.rows.start
        event = {"event": "token", "row": row, "text": token.text, "projections": own, "finish": token.finish}
        member.texts.tell(event)
        if token.finish:
            member.unfinished.discard(token.row)
        if not member.unfinished:
            self._members.remove(member)
            drawn = [member.drawn[row] for row in member.rows]
            member.texts.tell({"event": "done", "tokens": drawn, "seconds": time.perf_counter() - member.started})

    def _drop(self, member: _Member) -> None:
        self._members.remove(member)
        for row in member.unfinished:
            if self._stream:
                self._stream.cancel(row)

    def _fail(self, error: Exception) -> None:
        for member in self._members:
            with _told(member.texts):
                raise error
        self._members.clear()


class _told:  # noqa: N801  (reads as the statement that it is)
    """Tell a request of what goes wrong inside the `with`, and go on."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        message = str(error)
        if not isinstance(error, SteerflowError):
            log.error("a request failed", exc_info=error)
            message = "something went wrong here; the server's log has the details"
        self._texts.tell({"event": "error", "message": message, "type": type(error).__name__})
        return True
