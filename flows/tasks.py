"""`TASKS`: the stages as Prefect tasks, shown as *Cached* where the store had everything.

The store decides what is computed, so Prefect's own caching is off. Models and vectors stay in this process; a task's
state carries a message about what it computed and reused.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows.service.patience import patiently
from steering_core.concepts import Concept
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import HubUnreachable
from steering_core.models import Model
from steering_core.pipeline import stages
from steering_core.pipeline.stages import Stages
from steering_core.reports.markdown import markdown_text
from steering_core.reports.verdict_words import verdict_in_words
from steering_core.runs import Run, as_reported

PROGRESS_SECONDS = 3.0
STAGE_SECONDS = 12 * 3600  # a stage that takes longer hangs

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def as_task(
    name: str, stage: Callable[Concatenate[Run, Parameters], Result]
) -> Callable[Concatenate[Run, Parameters], Result]:
    """A stage as a Prefect task whose state says what was computed; a call returns the stage's result.

    `name` is the name of the task run, a format of the stage's arguments.
    """

    @functools.wraps(stage)
    def counted(run: Run, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> State[Result]:
        """Run the stage; a state with its result, and with what it added to the run's work."""
        before = run.total
        result = stage(run, *args, **kwargs)
        return _state(result, run.total - before)

    made: Any = task(task_run_name=name, cache_policy=NO_CACHE, persist_result=False, timeout_seconds=STAGE_SECONDS)(
        counted
    )

    @functools.wraps(stage)
    def called(run: Run, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Run the task, again while the server is away; the stage's result."""
        arguments, named = _unvisited(run, *args, **kwargs)
        return patiently(lambda: made(*arguments, **named, return_state=True)).result()

    return called


def _unvisited(*args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a task as Prefect takes them without a look inside.

    It would look for futures in every cell of a grid, twice for a task run, which took longer than tasks that find
    everything in the store. Stages are called with none.
    """
    return [quote(value) for value in args], {name: quote(value) for name, value in kwargs.items()}


def _state(result: Any, work: Work) -> State[Any]:
    """Completed, or *Cached* where nothing was computed, with a message that says how much was counted."""
    if work == Work():
        return Completed(data=result)
    if work.computed == 0 and work.reused:
        return Completed(name="Cached", message=f"all {work.reused} were in the store", data=result)
    message = f"computed {work.computed}, reused {work.reused}, {work.tokens} tokens in {work.seconds:.1f} s"
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
    """Whether a model could not be loaded because its hub did not answer, the only fault that a retry may mend."""
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


def in_the_log(
    stage: Callable[Concatenate[Run, Model, Concept, Parameters], dict[str, Any]],
) -> Callable[Concatenate[Run, Model, Concept, Parameters], dict[str, Any]]:
    """The stage that recommends, with the verdict of its row in the flow run's log."""

    @functools.wraps(stage)
    def logged(
        run: Run, model: Model, concept: Concept, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> dict[str, Any]:
        """Recommend, and log the verdict in words."""
        row = stage(run, model, concept, *args, **kwargs)
        get_run_logger().info("%s", verdict_in_words(as_reported(run.store, row)).plain)
        return row

    return logged


TASKS = Stages(
    load_model=load_model,
    extract_activations=as_task("extract activations of {model.name}", stages.extract_activations),
    derive_vectors=as_task("derive vectors of {concept.name} on {model.name}", stages.derive_vectors),
    search_cells=as_task("search the grid of {concept.name} on {model.name}", stages.search_cells),
    generate_samples=as_task("generate {split} texts of {concept.name} on {model.name}", stages.generate_samples),
    score_shortlist=as_task("score {concept.name} on validation with {model.name}", stages.score_shortlist),
    choose_candidate=as_task("choose for {concept.name} on {model.name}", stages.choose_candidate),
    score_trial=as_task("score {concept.name} on test with {model.name}", stages.score_trial),
    search_chance=as_task("search among permuted labels of {concept.name} on {model.name}", stages.search_chance),
    measure_side_effects=as_task("measure side effects of {concept.name} on {model.name}", stages.measure_side_effects),
    measure_capabilities=as_task(
        "measure capabilities under {concept.name} on {model.name}", stages.measure_capabilities
    ),
    recommend_vector=as_task("recommend for {concept.name} on {model.name}", in_the_log(stages.recommend_vector)),
)
