"""`make up` and `make down`: idempotent, and clear about what stands in their way."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import service
from flows.background import Background

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Background]:
    process = Background(tmp_path, "sleeper")
    yield process
    process.stop()


def test_a_process_is_started_once_and_stopped_once(sleeper: Background) -> None:
    assert sleeper.process_id is None
    sleeper.start(SLEEP, os.environ)
    first = sleeper.process_id
    sleeper.start(SLEEP, os.environ)
    assert first is not None
    assert sleeper.process_id == first
    assert sleeper.stop()
    assert sleeper.process_id is None
    assert not sleeper.stop()


def test_a_killed_process_is_known_to_be_dead_and_started_again(sleeper: Background) -> None:
    sleeper.start(SLEEP, os.environ)
    first = sleeper.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert sleeper.process_id is None
    sleeper.start(SLEEP, os.environ)
    assert sleeper.process_id not in (None, first)


def test_a_stale_file_with_somebody_elses_process_id_does_no_harm(sleeper: Background, tmp_path: Path) -> None:
    innocent = subprocess.Popen(SLEEP, start_new_session=True)
    (tmp_path / "sleeper.pid").write_text(str(innocent.pid))
    assert sleeper.process_id is None
    assert not sleeper.stop()
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_process_that_ignores_sigterm_is_killed(sleeper: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.background.SECONDS_TO_STOP", 0.5)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    sleeper.start([sys.executable, "-c", stubborn], os.environ)
    while "up" not in sleeper.last_words():
        time.sleep(0.02)
    assert sleeper.stop()
    deadline = time.monotonic() + 5
    while sleeper.process_id and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sleeper.process_id is None


def test_a_port_that_something_else_holds_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as held:
        api = f"http://127.0.0.1:{held.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: api}), pytest.raises(service.ServiceError, match="is taken by"):
            service.up()


def test_another_machines_server_is_not_started_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_answers", lambda api: False)
    with (
        temporary_settings({PREFECT_API_URL: "http://192.0.2.1:4200/api"}),
        pytest.raises(service.ServiceError, match="another machine's"),
    ):
        service.up()


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = Background(tmp_path, "server")
    process.start([sys.executable, "-c", "print('no such table: flow_run')"], os.environ)
    with pytest.raises(service.ServiceError, match=r"ended by itself.*\n.*no such table"):
        service._wait(process, lambda: False)
