"""`Accelerator`: the one thread that owns every model, and what waits for it.

MLX evaluates nothing across threads, and one device serves all tabs. So requests wait in a fair queue. Those of one
model are decoded as one batch (`batches`), which they join between two tokens and leave when they are done; every row
is what it would be alone. Up to `MODELS` take turns. What nobody waits for any more is dropped, before it starts or
between two tokens; a prompt is read whole, and everybody waits for it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from steering_core.engine.prefixes import Prefixes
from steering_core.explorer.batches import Event, SamplingJob, ServedBatch
from steering_core.explorer.models import OpenModels
from steering_core.explorer.queue import Busy, FairQueue
from steering_core.models import Model

T = TypeVar("T")

MODELS = 2  # that take turns on the device
ROWS = 64  # of one model under way; requests beyond wait
WAITING = 64  # requests; more are refused
_BUSY = f"{WAITING} requests wait for the accelerator already: try again in a moment"


@dataclass(eq=False)
class QueuedCall:
    """A function of an open model, to be run between two tokens."""

    model: str
    function: Callable[[Model], Any]
    result: Future[Any] = field(default_factory=Future)


class Accelerator:
    """Runs texts and calls, as they were asked for, on a thread of its own between `start` and `stop`."""

    def __init__(self, models: OpenModels) -> None:
        self.models = models
        self._queue: FairQueue[SamplingJob | QueuedCall] = FairQueue(WAITING)
        self._running: list[ServedBatch] = []
        self._prefixes: dict[str, Prefixes] = {}
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

    def submit(self, client: str, texts: SamplingJob) -> None:
        """Have `texts` sampled when it is `client`'s turn. Raises Busy where too many wait."""
        self._put(client, texts)

    def call(self, client: str, model: str, function: Callable[[Model], T]) -> "Future[T]":
        """The result of `function(model)`, run on the accelerator's thread. Raises Busy where too many wait."""
        call = QueuedCall(model, function)
        self._put(client, call)
        return call.result

    def cancel(self, texts: SamplingJob) -> None:
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

    # -- `_put` and `_tell_positions` run on any thread, the latter under the lock; the rest on the accelerator's ----

    def _put(self, client: str, job: SamplingJob | QueuedCall) -> None:
        with self._changed:
            if self._stopping or not self._queue.put(client, job):
                raise Busy(_BUSY)
            self._tell_positions()
            self._changed.notify()

    def _tell_positions(self) -> None:
        for place, job in enumerate(self._queue, start=1 if self._running else 0):
            if isinstance(job, SamplingJob) and job.position != place:
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
        self._prefixes.clear()
        self.models.close()

    def _next(self) -> list[QueuedCall | SamplingJob]:
        """What may begin now, a call alone; waits for it where nothing runs."""
        with self._changed:
            while not self._running and not len(self._queue) and not self._stopping:
                self._changed.wait()
            found: list[QueuedCall | SamplingJob] = []
            coming: dict[str, int] = {batch.model: batch.rows for batch in self._running}
            while job := self._queue.take(lambda job: isinstance(job, QueuedCall) or _has_room(job, coming)):
                found.append(job)
                if isinstance(job, QueuedCall):
                    break
                coming[job.sampling.model] = coming.get(job.sampling.model, 0) + 1
            self._tell_positions()
        return found

    def _begin(self, job: QueuedCall | SamplingJob) -> None:
        if isinstance(job, SamplingJob):
            batch = next((batch for batch in self._running if batch.model == job.sampling.model), None)
            batch = batch or ServedBatch(job.sampling.model, self._open, self._prefixes_of)
            batch.add(job)
            if batch.rows and batch not in self._running:
                self._running.append(batch)
        elif job.result.set_running_or_notify_cancel():
            try:
                job.result.set_result(job.function(self._open(job.model)))
            except Exception as error:  # noqa: BLE001  (the future carries it to whoever waits)
                job.result.set_exception(error)

    def _open(self, name: str) -> Model:
        model = self.models.open(name, {batch.model for batch in self._running})
        for closed in self._prefixes.keys() - set(self.models.loaded()):
            del self._prefixes[closed]
        return model

    def _prefixes_of(self, model: Model) -> Prefixes:
        if model.name not in self._prefixes:
            self._prefixes[model.name] = Prefixes(model)
        return self._prefixes[model.name]


def _has_room(texts: SamplingJob, running: dict[str, int]) -> bool:
    """Whether a request may begin beside so many rows of each model that runs."""
    model = texts.sampling.model
    return running[model] < ROWS if model in running else len(running) < MODELS
