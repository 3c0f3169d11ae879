"""A user's mistake in a flow run's log: once, in one line, whatever Prefect makes of it."""

import logging
from collections.abc import Iterator

import pytest
from prefect.logging import get_logger
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Failed

from flows.service.faults import LOGGERS, tell_faults_in_one_line
from steering_core.foundation.errors import SpecError


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What Prefect's loggers say of a flow run that is about to begin, as a page or a terminal shows it."""
    for _ in range(2):
        tell_faults_in_one_line()
    caplog.set_level(logging.INFO)
    told: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(caplog.handler.format(record)))
    for name in LOGGERS:
        monkeypatch.setattr(get_logger(name), "disabled", False)
        get_logger(name).addHandler(handler)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield told
    for name in LOGGERS:
        get_logger(name).removeHandler(handler)


def as_prefect_logs(error: Exception, *, by_task: bool) -> None:
    """Every line that Prefect 3.8.8 logs of an error: where a task ends, in the flow, and where the process ends."""
    task, run, state = get_logger("task_runs"), get_logger("flow_runs"), f"{type(error).__name__}: {error}"
    try:
        raise error
    except Exception as raised:  # noqa: BLE001  (as Prefect does)
        if by_task:
            task.info("Task run failed with exception: %r - Retry 1/1 will start 10 second(s) from now", raised)
            task.exception("Task run failed with exception: %r - Retries are exhausted", raised)
            task.error(f"Finished in state {Failed(message=f'Task run encountered an exception {state}')}")
        run.exception("Encountered exception during execution: %r", raised)
        run.info(f"Finished in state {Failed(message=f'Flow run encountered an exception: {state}')}")
        run.error("Engine execution exited with unexpected exception", exc_info=True)


MISTAKE = "the spec 'bad' has 1 fault:\n  models: must be a list"


@pytest.mark.parametrize("by_task", [False, True])
def test_a_users_mistake_is_said_once_in_the_log(log: list[str], by_task: bool) -> None:
    as_prefect_logs(SpecError(MISTAKE), by_task=by_task)
    assert [line for line in log if "Traceback" in line] == []
    assert sum("must be a list" in line for line in log) == 1
    assert f"SpecError: {MISTAKE}" in log[0]
    assert "Encountered exception during execution: SpecError" in log[-2]
    assert log[-1].endswith("Finished in state Failed")
    if by_task:
        assert log[0].endswith("Retry 1/1 will start 10 second(s) from now")
        assert log[1].endswith("SpecError, as said above - Retries are exhausted")


def test_a_task_s_own_line_is_the_one_that_says_a_mistake(log: list[str]) -> None:
    error = SpecError("it isn't there")
    get_logger("task_runs").error(f"Finished in state {Failed(message=f'Task run encountered: {error}')}")
    as_prefect_logs(error, by_task=False)
    assert [line for line in log if "isn't there" in line] == log[:1]


def test_another_mistake_and_the_next_flow_run_s_are_said_too(log: list[str]) -> None:
    as_prefect_logs(SpecError("one"), by_task=False)
    as_prefect_logs(SpecError("two"), by_task=False)
    tell_faults_in_one_line()
    as_prefect_logs(SpecError("one"), by_task=False)
    assert [sum(word in line for line in log) for word in ("SpecError: one", "SpecError: two")] == [2, 1]


def test_any_other_error_keeps_its_lines_and_tracebacks(log: list[str]) -> None:
    as_prefect_logs(ValueError("a defect"), by_task=True)
    assert sum("a defect" in line for line in log) == 6
    assert sum("Traceback" in line for line in log) == 3
