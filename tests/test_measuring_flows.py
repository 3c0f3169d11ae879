"""The flows that measure cells, and their patience with a server that is away; none needs a server."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from flows import measuring, sweep_layers
from flows.service import patience
from flows.service.patience import patiently
from steering_core.concepts import Concept
from steering_core.foundation.errors import ConceptError
from steering_core.pipeline.stages import PLAIN
from steering_core.store import Store
from tests.quick import spec_file

AWAY = httpx.ConnectError("All connection attempts failed")
NO_SLOT = ConcurrencySlotAcquisitionError("Unable to acquire concurrency slots on ['tag:model:m']")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Keys and texts of what was published; tasks are plain functions."""
    found: list[tuple[str, str]] = []
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "publish", lambda text, key, description: found.append((key, text)))
    monkeypatch.setattr(measuring, "measure_cell", measuring.measure_cell.fn)
    monkeypatch.setattr(measuring.flow_run, "id", "run", raising=False)
    monkeypatch.setattr(measuring, "TASKS", PLAIN)
    monkeypatch.setattr(sweep_layers, "ProgressReporter", lambda: lambda what, done, total: None)
    return found


def test_a_layer_sweep_measures_every_layer_and_publishes_its_rows(
    published: list[tuple[str, str]], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    spec = str(spec_file(tmp_path, tiny_folder, concept))
    rows = sweep_layers.sweep_layers.fn(spec=spec, damage=0.05, store=str(tmp_path / "store"))
    assert {row["layer"] for row in rows} == {0, 1, 2, 3}  # the spec's grid has layer 1 alone
    assert all(row["kl"] <= 0.05 for row in rows)
    ((key, text),) = published
    assert key == "sweep-layers"
    assert sum(line.startswith("|") for line in text.splitlines()) == 2 + len(rows)
    assert Store(tmp_path / "store").rows("SELECT * FROM raw.outcomes") == []


def test_a_cell_that_fails_does_not_keep_the_others_rows_from_being_published(
    published: list[tuple[str, str]], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept)
    here = [str(tmp_path / "loud.yaml"), str(tmp_path / "nowhere.yaml")]
    spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | {"concepts": here}))
    with pytest.raises(ConceptError, match="nowhere"):
        sweep_layers.sweep_layers.fn(spec=str(spec), damage=0.05, store=str(tmp_path / "store"))
    assert "loud" in published[0][1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A clock that only waiting moves; the server is well from `well` on."""
    state = {"now": 0.0, "well": 0.0}
    # The module's own `time`: threads that other tests left, such as Prefect's, sleep by the machine's.
    own = SimpleNamespace(
        monotonic=lambda: state["now"], sleep=lambda seconds: state.update(now=state["now"] + seconds)
    )
    monkeypatch.setattr(patience, "time", own)
    monkeypatch.setattr(patience, "_answers", lambda: state["now"] >= state["well"])
    monkeypatch.setattr(patience, "get_run_logger", lambda: logging.getLogger("test"))
    return state


def failing(clock: dict[str, float], error: Exception, calls: list[float]) -> Callable[[], str]:
    def call() -> str:
        calls.append(clock["now"])
        if clock["now"] < clock["well"]:
            raise error
        return "done"

    return call


@pytest.mark.parametrize("error", [AWAY, NO_SLOT])
def test_a_server_that_is_away_is_waited_for_and_the_call_made_again_once(
    clock: dict[str, float], error: Exception
) -> None:
    calls: list[float] = []
    clock["well"] = 100.0
    assert patiently(failing(clock, error, calls)) == "done"
    assert calls == [0.0, 100.0]


def test_a_server_that_stays_away_is_not_waited_for_for_ever(clock: dict[str, float]) -> None:
    calls: list[float] = []
    clock["well"] = 1e9
    with pytest.raises(httpx.ConnectError):
        patiently(failing(clock, AWAY, calls), seconds=60)
    assert clock["now"] == pytest.approx(60, abs=5)


def test_what_is_no_fault_of_the_servers_is_raised_at_once(clock: dict[str, float]) -> None:
    def call() -> Any:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        patiently(call)
    assert clock["now"] == 0.0
