"""Runs: what one execution of a spec did, and what became of each of its (model, concept) cells.

A cell that fails is an outcome like any other: it is stored with its error, and the run goes on with the next.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, Self

from steering_core.concepts import Concept
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import RunIncomplete, SteerflowError
from steering_core.foundation.keys import content_key
from steering_core.foundation.paces import keep_paces
from steering_core.foundation.progress import Notify, Progress, notify_nobody
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.store.values import stored_object

STAGES = ("activations", "vectors", "generations", "scores", "side_effects")
COMPLETED, INCOMPLETE, FAILED = "completed", "incomplete", "failed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """One cell that failed, and why."""

    model: str
    concept: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.concept} on {self.model}: {type(self.error).__name__}: {self.error}"


@dataclass
class Run:
    """One execution of a spec against a store. It lasts as long as its `with`.

    `steer store gc` waits while the `with` lasts. The run's row is stored by `finish` alone: a run that an error ends
    has none. `notify` hears (what, done, total) from long steps. `sweep` names the sweep that the run is part of.
    `commits` says which commit of the hub each model was read from; side effects are measured on `side_concepts`.
    A run that recommends nothing (a calibration) keeps no outcomes.
    """

    spec: Spec
    store: Store
    notify: Notify = notify_nobody
    sweep: str | None = None
    keeps_outcomes: bool = True
    counts: dict[str, Work] = field(default_factory=lambda: {stage: Work() for stage in STAGES})
    recommendations: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    commits: dict[str, str] = field(default_factory=dict)
    side_concepts: list[Concept] = field(default_factory=list)
    started_at: datetime.datetime = field(init=False)  # these three are set where the `with` is entered
    _clock: float = field(init=False)
    _held: contextlib.ExitStack = field(init=False)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as held:
            held.enter_context(self.store.in_use())
            self.started_at, self._clock = self.store.time_after_all("runs", "started_at"), time.perf_counter()
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @cached_property
    def run_id(self) -> str:
        """Content key of the spec and the moment."""
        return content_key("run", self.spec.key, self.started_at.isoformat())

    def count(self, stage: str, did: Done) -> None:
        """Add what a stage's call did to the run's counts."""
        self.counts[stage] += did.work

    @property
    def total(self) -> Work:
        """What all stages did so far."""
        return sum(self.counts.values(), Work())

    def progress(self, what: str) -> Progress:
        """A progress callback for one long step."""
        return lambda done, total: self.notify(what, done, total)

    @contextlib.contextmanager
    def guard(self, model: str, concepts: Sequence[str]) -> Iterator[None]:
        """Let an error inside be the outcome of these cells, not of the run."""
        before, clock = self.total, time.perf_counter()
        try:
            yield
        except Exception as error:  # whatever a model, a concept or a disk may do: the other cells shall finish
            # The error's message is in the error that the run ends with; the log adds the place of an unforeseen one.
            foreseen = isinstance(error, SteerflowError)
            level = logging.INFO if foreseen else logging.ERROR
            log.log(level, "%s on %s failed", ", ".join(concepts), model, exc_info=not foreseen)
            for concept in concepts:
                self.failures.append(Failure(model, concept, error))
                did = dataclasses.replace(self.total - before, seconds=time.perf_counter() - clock)
                self._store_outcome(model, concept, did, error=f"{type(error).__name__}: {error}")

    @contextlib.contextmanager
    def cell(self, model: str, concept: str) -> Iterator[list[dict[str, Any]]]:
        """One cell: the recommendation put into the list is its outcome; an error fails this cell alone."""
        before, clock = self.total, time.perf_counter()
        with self.guard(model, [concept]):
            found: list[dict[str, Any]] = []
            yield found
            self.recommendations += found
            did = dataclasses.replace(self.total - before, seconds=time.perf_counter() - clock)
            self._store_outcome(model, concept, did, found[0])

    def _store_outcome(
        self, model: str, concept: str, did: Work, found: dict[str, Any] | None = None, error: str | None = None
    ) -> None:
        if not self.keeps_outcomes:
            return
        ids = {name: found[name] if found else None for name in ("model_id", "concept_id", "recommendation_id")}
        now = self.store.time_after_all("outcomes", "finished_at")
        row = {"run_id": self.run_id, "sweep": self.sweep or self.run_id, "model": model, "concept": concept, **ids}
        row |= {"outcome": COMPLETED if found else FAILED, "error": error, "finished_at": now}
        self.store.append("outcomes", [row | dataclasses.asdict(did)])

    def finish(self) -> dict[str, Any]:
        """Store the run's row; its report, which names `failures` where there are any."""
        stages = {stage: dataclasses.asdict(counts) for stage, counts in self.counts.items()}
        outcome = COMPLETED if not self.failures else INCOMPLETE if self.recommendations else FAILED
        models = sorted({r["model_id"] for r in self.recommendations})
        row = {
            "run_id": self.run_id,
            "name": self.spec.name,
            "spec": self.spec.model_dump_json(),
            "spec_key": self.spec.key,
            "started_at": self.started_at,
            "seconds": time.perf_counter() - self._clock,
            "outcome": outcome,
            "stages": json.dumps(stages),
            "versions": json.dumps(dict(_versions()) | self.commits),
            "recommendation_ids": [r["recommendation_id"] for r in self.recommendations],
            "concept_ids": sorted({r["concept_id"] for r in self.recommendations}),
            "model_ids": models,
        }
        self.store.append("runs", [row])
        if len(models) == 1:  # the counts of several models cannot be told apart
            keep_paces(models[0], self.counts)
        named = [as_reported(self.store, r) for r in self.recommendations]
        failed = [{"model": f.model, "concept": f.concept, "error": str(f.error)} for f in self.failures]
        report = {"run": self.run_id, "stages": stages, "recommendations": named}
        return report | ({"failures": failed} if failed else {})

    def raise_failures(self, report: dict[str, Any]) -> None:
        """Raise what went wrong: RunIncomplete, or the one SteerflowError itself where nothing came of the run."""
        errors = {id(f.error): f.error for f in self.failures}
        alone = next(iter(errors.values())) if len(errors) == 1 and not self.recommendations else None
        if isinstance(alone, SteerflowError):
            raise alone
        if errors:
            cells = len(self.spec.models) * len(self.spec.concepts)
            failed = len({(failure.model, failure.concept) for failure in self.failures})  # each may say two things
            lines = "\n".join(f"  {failure}" for failure in self.failures)
            raise RunIncomplete(
                f"{failed} of {cells} cells failed; the others are in the store, and running this again "
                f"does only what is missing:\n{lines}",
                report,
            )


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    for package in ("steerflow", "mlx", "mlx-lm", "numpy", "scipy", "transformers", "duckdb", "pyarrow", "prefect"):
        yield package, version(package)


def as_reported(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """A stored recommendation as every report shows it, with names beside its keys."""
    (found,) = store.rows("SELECT * FROM recommendations WHERE recommendation_id = ?", [row["recommendation_id"]])
    return found


def stored_spec(store: Store, spec_key: str | None) -> dict[str, Any]:
    """The spec of that key as a run has stored it; empty where no run has. Raises StoreDamaged for no JSON object."""
    found = store.rows("SELECT spec FROM runs WHERE spec_key = ? LIMIT 1", [spec_key])
    return stored_object("raw.runs.spec", found[0]["spec"]) if found else {}
