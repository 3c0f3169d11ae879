"""After a kill -9: what the machine knows of its flow runs, what it tells the server, and what a sweep does."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Crashed, Failed, Running

from flows import sweep
from flows.service import machine, recovery
from flows.service.clone import state_folder
from steering_core.foundation.errors import SettingError

API = "http://127.0.0.1:9/api"
HOLD = (
    "import sys, time\nfrom flows.service.machine import in_hand\n"
    "with in_hand(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", API)


def holder(flow_run_id: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, flow_run_id], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def server(run: dict[str, Any] | None, heard: list[dict[str, Any]]) -> httpx.Client:
    """A server that knows one flow run, or none, and notes the states that it is told."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/set_state"):
            heard.append(json.loads(request.content)["state"])
            return httpx.Response(201, json={})
        return httpx.Response(200, json=run) if run else httpx.Response(404)

    return httpx.Client(base_url=API, transport=httpx.MockTransport(answer))


def flow_run(**changed: Any) -> dict[str, Any]:
    return {"name": "gorgeous-bat", "state_type": "RUNNING", "deployment_id": "d", "run_count": 1} | changed


def test_the_kernel_knows_which_flow_runs_died() -> None:
    lost, alive = str(uuid4()), str(uuid4())
    first, second = holder(lost), holder(alive)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    held = {note.stem: machine.is_held(note) for note in recovery.notes(API)}
    assert held == {lost: False, alive: True}
    assert recovery.notes("http://elsewhere/api") == []
    assert recovery.stop_flow_runs(API) == 1
    assert second.wait() != 0


@pytest.mark.parametrize(
    ("run", "states", "said"),
    [
        (flow_run(), ["AwaitingRetry"], ["gorgeous-bat: back in the queue, its process had died"]),
        (flow_run(state_type="PENDING"), ["AwaitingRetry"], ["gorgeous-bat: back in the queue, its process had died"]),
        (flow_run(run_count=recovery.ATTEMPTS), ["Crashed"], ["gorgeous-bat: crashed for good, it died 5 times"]),
        (flow_run(deployment_id=None), ["Crashed"], ["gorgeous-bat: crashed, its process died"]),
        (flow_run(state_type="COMPLETED"), [], []),
        (None, [], []),
    ],
)
def test_a_lost_flow_run_goes_back_into_the_queue_a_few_times(
    run: dict[str, Any] | None, states: list[str], said: list[str]
) -> None:
    note = machine.flow_runs_folder() / f"{uuid4()}.json"
    note.parent.mkdir()
    note.write_text(json.dumps({"process": 1, "api": API, "state": str(state_folder())}))
    heard: list[dict[str, Any]] = []
    with server(run, heard) as client:
        assert recovery.recover(client, API) == said
    assert [state["name"] for state in heard] == states
    assert not note.exists()


@pytest.mark.parametrize("torn", ["", '{"process": 1, "ap', "\0\0\0"])
def test_a_note_that_its_process_did_not_finish_is_passed_over(torn: str) -> None:
    note = machine.flow_runs_folder() / f"{uuid4()}.json"
    note.parent.mkdir()
    note.write_text(torn)
    assert recovery.notes(API) == []
    assert recovery.recover(server(None, []), API) == []


def test_another_clones_flow_runs_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clones may share a machine, and even a server: the notes say whose hands a flow run is in."""
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path / "theirs"))
    theirs = holder(str(uuid4()))
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path / "ours"))
    assert recovery.notes(API) == []
    assert recovery.stop_flow_runs(API) == 0
    assert theirs.poll() is None
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path / "theirs"))
    assert recovery.stop_flow_runs(API) == 1
    assert theirs.wait() != 0


def test_a_note_that_ends_by_itself_leaves_nothing() -> None:
    with temporary_settings({PREFECT_API_URL: API}), machine.in_hand("x"):
        assert [note.stem for note in recovery.notes(API)] == ["x"]
    assert recovery.notes(API) == []


def test_two_flow_runs_do_not_compute_on_one_accelerator(tmp_path: Path) -> None:
    with machine.accelerator():
        lock = tmp_path / "locks" / "accelerator-0"
        assert machine.is_held(lock)
        assert lock.read_text().split("\n")[0] == str(os.getpid())
    assert not machine.is_held(lock)


def test_who_waits_is_told_again_and_again_for_what_and_whom_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(machine, "get_run_logger", lambda: logging.getLogger("waiting"))
    monkeypatch.setattr(machine, "SAID_EVERY", 0.02)
    monkeypatch.setattr(machine, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path / "a clone" / ".state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("steering_core.backend.mlx.on_cpu", lambda: True)
    caplog.set_level(logging.INFO, "waiting")
    waiter = threading.Thread(target=lambda: machine.accelerator().__enter__())
    with machine.accelerator():
        waiter.start()
        while len(caplog.messages) < 2:
            assert waiter.is_alive()
            time.sleep(0.01)
    waiter.join(10)
    assert not waiter.is_alive()
    for part in ("waiting for this machine's processor", "a clone", f"process {os.getpid()}", "STEERFLOW_ACCELERATOR"):
        assert part in caplog.messages[1]


@pytest.mark.parametrize(
    ("environment", "cpu", "named"),
    [
        ({"STEERFLOW_ACCELERATOR": "left"}, True, "accelerator 'left'"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, False, "CUDA device 1"),
        ({}, False, "this machine's GPU"),
        ({}, True, "this machine's processor"),
    ],
)
def test_what_is_waited_for_goes_by_its_name(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], cpu: bool, named: str
) -> None:
    for name in ("STEERFLOW_ACCELERATOR", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("steering_core.backend.mlx.on_cpu", lambda: cpu)
    assert named in machine.device()


@pytest.mark.parametrize(
    ("states", "attempts"),
    [
        ([Completed()], 1),
        ([Failed()], 1),
        ([Running(), Crashed(), Completed()], 2),
        ([Crashed()] * 9, sweep.ATTEMPTS),
    ],
)
def test_a_sweep_tries_again_what_crashed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, states: list[Any], attempts: int
) -> None:
    told, keys = iter(states), []

    def begin(model: str, attempt: int, parameters: dict[str, Any]) -> FlowRun:
        keys.append(attempt)
        return FlowRun(id=UUID(int=attempt), flow_id=uuid4(), name=model)

    def read(client: Any, run: FlowRun) -> FlowRun:
        return run.model_copy(update={"state": next(told)})

    for name, fake in (("begin", begin), ("read", read), ("POLL_SECONDS", 0.0)):
        monkeypatch.setattr(sweep, name, fake)
    monkeypatch.setattr(sweep, "get_run_logger", lambda: logging.getLogger("test"))
    (ended,) = sweep.end_of_all({"m": begin("m", 0, {})}, {})
    assert keys == list(range(attempts))
    assert ended.state is not None
    assert ended.state.is_final()


@pytest.mark.parametrize("held", [lambda: machine.in_hand("one"), machine.accelerator])
def test_a_cache_folder_that_is_a_file_is_told_with_the_remedy(
    held: Callable[[], AbstractContextManager[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingError, match=r"file is a file\): have it made writable, or set STEERFLOW_CACHE"), held():
        pass
