"""The stages as Prefect tasks: thin, and shown as *Cached* where the store had everything.

The store decides what is computed, so Prefect's own caching is off. Models and vectors stay in this process; a task's
state carries a message about what it computed and reused.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.service.patience import patiently
from steering_core.candidates.cell import Cell, Trial
from steering_core.concepts import Concept, Split
from steering_core.evaluation.search import Shortlist
from steering_core.foundation.errors import HubUnreachable
from steering_core.models import Model
from steering_core.pipeline import stages
from steering_core.reports.markdown import markdown_text
from steering_core.runs import Counts, Run
from steering_core.scores.summary import Scores
from steering_core.vectors.vector import Vector

PROGRESS_SECONDS = 3.0
STAGE_SECONDS = 12 * 3600  # a stage that takes longer hangs

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def stage(
    name: str, **options: Any
) -> Callable[[Callable[Parameters, tuple[Result, Counts]]], Callable[Parameters, Result]]:
    """Make a stage function a Prefect task whose state says what was computed; a call returns the stage's result."""

    def made(function: Callable[Parameters, tuple[Result, Counts]]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> State[Result]:
            return _state(*function(*args, **kwargs))

        as_task: Any = task(
            task_run_name=name, cache_policy=NO_CACHE, persist_result=False, timeout_seconds=STAGE_SECONDS, **options
        )(run)

        @functools.wraps(function)
        def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            return patiently(lambda: as_task(*args, **kwargs, return_state=True)).result()

        return called

    return made


def _state(result: Any, counts: Counts) -> State[Any]:
    """Completed, or *Cached* where nothing was computed, with a message that says how much."""
    if counts.computed == 0 and counts.reused:
        return Completed(name="Cached", message=f"all {counts.reused} were in the store", data=result)
    message = f"computed {counts.computed}, reused {counts.reused}, {counts.tokens} tokens in {counts.seconds:.1f} s"
    return Completed(message=message, data=result)


class ProgressReporter:
    """Hears of a long step's progress, and shows it as a log line and a progress artifact every few seconds."""

    def __init__(self) -> None:
        self._artifacts: dict[str, Any] = {}
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show `done` of `total`, unless something was shown a moment ago."""
        now = time.monotonic()
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        get_run_logger().info("%s: %d of %d", what, done, total)
        try:
            self._draw(what, 100 * done / max(total, 1))
        except httpx.TransportError as error:  # the server is away: the work goes on, the picture waits
            get_run_logger().warning("progress is not shown: %s", error)

    def _draw(self, what: str, percent: float) -> None:
        if what in self._artifacts:
            update_progress_artifact(self._artifacts[what], progress=percent)
        else:
            self._artifacts[what] = create_progress_artifact(progress=percent, description=markdown_text(what))


def _hub_may_answer_later(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Whether a model could not be loaded because of its hub's network, the one fault that time mends."""
    return isinstance(state.result(raise_on_failure=False), HubUnreachable)


@task(
    task_run_name="load {name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=_hub_may_answer_later,
)
def load_model(run: Run, name: str) -> Model:
    """Identify the model and register it; a hub may need a second try."""
    return stages.load_model(run, name)


@stage("extract activations of {model.name}")
def extract_activations(run: Run, model: Model, concepts: Sequence[Concept]) -> tuple[None, Counts]:
    """Activations of every pair of every concept, all layers at once."""
    return None, stages.extract_activations(run, model, concepts)


@stage("derive vectors of {concept.name} on {model.name}")
def derive_vectors(run: Run, model: Model, concept: Concept) -> tuple[list[Vector], Counts]:
    """Every method's vector at every layer, with controls."""
    return stages.derive_vectors(run, model, concept)


@stage("generate {split} texts of {concept.name} on {model.name}")
def generate_samples(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], split: Split
) -> tuple[list[str], Counts]:
    """A text for every cell and open prompt of a split."""
    return stages.generate_samples(run, model, concept, cells, split)


@stage("search the grid of {concept.name} on {model.name}")
def search_cells(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], vectors: Sequence[Vector]
) -> tuple[Shortlist, Counts]:
    """The candidates that deserve texts, with their controls."""
    return stages.search_cells(run, model, concept, cells, vectors)


@stage("score {concept.name} on validation with {model.name}")
def score_shortlist(
    run: Run, model: Model, concept: Concept, found: Shortlist, texts: Sequence[str]
) -> tuple[Scores, Counts]:
    """Validation scores of what the search tried and of the shortlist's texts."""
    return stages.score_shortlist(run, model, concept, found, texts)


@stage("score {concept.name} on test with {model.name}")
def score_trial(run: Run, model: Model, concept: Concept, trial: Trial, texts: Sequence[str]) -> tuple[Scores, Counts]:
    """Test scores of the chosen candidate and of all that it is compared with."""
    return stages.score_trial(run, model, concept, trial, texts)


@task(task_run_name="recommend for {concept.name} on {model.name}", cache_policy=NO_CACHE, persist_result=False)
def recommend(run: Run, model: Model, concept: Concept, trial: Trial, scores: Scores) -> dict[str, Any]:
    """The choice, with its evidence on test."""
    row = stages.recommend_vector(run, trial, scores)
    get_run_logger().info("%s: %s", row["verdict"], row["reason"])
    return row
