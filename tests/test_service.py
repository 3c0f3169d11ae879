"""`make up` and `make down`: idempotent, and clear about what stands in their way."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from flows.service import clone, deployments, server
from flows.service.background import Background, stop_all
from flows.service.processes import ServiceError, wait
from flows.service.server import SeenServer

ROOT = Path(__file__).parent.parent
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


def test_who_asks_while_it_is_being_started_gets_its_id_and_never_an_earlier_one(
    sleeper: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeper.pid").write_text("1")  # of an earlier process
    asked: list[int | None] = []
    asks = threading.Thread(target=lambda: asked.append(sleeper.process_id))
    popen = subprocess.Popen

    def slow(*arguments: object, **options: object) -> object:
        asks.start()
        time.sleep(0.3)
        return popen(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("flows.service.background.subprocess.Popen", slow)
    sleeper.start(SLEEP, os.environ)
    asks.join()
    assert asked == [sleeper.process_id]
    assert asked[0] not in (None, 1)


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
    monkeypatch.setattr("flows.service.background.SECONDS_TO_STOP", 0.5)
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


def test_processes_that_ignore_sigterm_are_waited_for_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.service.background.SECONDS_TO_STOP", 2.0)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    both = [Background(tmp_path, name) for name in ("one", "another")]
    for process in both:
        process.start([sys.executable, "-c", deaf], os.environ)
    while not all("up" in process.last_words() for process in both):
        time.sleep(0.02)
    began = time.monotonic()
    assert stop_all([*both, Background(tmp_path, "never started")]) == both
    assert 2.0 <= time.monotonic() - began < 4.0


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's folder of state, with nothing in it and nothing in the environment."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "STEERFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("given", [True, False])
def test_a_port_that_something_else_holds(state: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    """A port that the user chose is refused at once; otherwise the next free one is taken, and said."""
    started: list[str] = []
    monkeypatch.setattr(server, "_started", lambda address: not started.append(address.api))
    with _stranger() as port:
        address = clone.Address(f"http://127.0.0.1:{port}/api", "steerflow:x", given)
        if given:
            with pytest.raises(ServiceError, match=rf"port {port} of 127.0.0.1 is taken by something that is no"):
                server.have_server(address)
            assert started == []
        else:
            found = server.have_server(address)
            assert started == [found.api]
            assert int(found.api.split(":")[2].removesuffix("/api")) > port
            assert clone.remembered_api() == found.api


@contextmanager
def _stranger(status: int = 404, body: bytes = b"{}") -> Iterator[int]:
    """The port of an HTTP server of somebody else's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        (200, b'"0.8.4"', SeenServer.OPEN),
        (401, b"", SeenServer.ANOTHERS),
        (404, b"", SeenServer.STRANGER),
        (200, b"<", SeenServer.STRANGER),
    ],
)
def test_what_answers_is_told_apart(status: int, body: bytes, seen: SeenServer) -> None:
    with _stranger(status, body) as port:
        assert server.look(clone.Address(f"http://127.0.0.1:{port}/api", "a:b")) is seen
    assert server.look(clone.Address(f"http://127.0.0.1:{port}/api", "a:b")) is SeenServer.NOTHING


def test_a_server_without_a_password_is_never_taken_by_itself(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_started", lambda address: True)
    with _stranger(200, b'"0.8.4"') as port:
        address = clone.Address(f"http://127.0.0.1:{port}/api", "steerflow:x")
        assert server.have_server(address).api != address.api


def test_another_machines_server_is_not_started_here(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "look", lambda address: SeenServer.NOTHING)
    with pytest.raises(ServiceError, match="another machine's"):
        server.have_server(clone.Address("http://192.0.2.1:4200/api", "a:b", given=True))


def test_an_address_is_kept_privately_beside_other_profiles_and_in_one_step(state: Path) -> None:
    file = clone.profiles_file()
    file.parent.mkdir()
    file.write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://other/api"\n')
    address = clone.read_address()
    assert not address.given
    clone.keep_address(address)
    kept = tomllib.loads(file.read_text())
    assert kept["active"] == "mine"
    assert kept["profiles"]["mine"] == {"PREFECT_API_URL": "http://other/api"}
    assert kept["profiles"]["steerflow"]["PREFECT_API_AUTH_STRING"] == address.auth
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["profiles.toml"]
    assert clone.read_address() == address


def test_pools_are_named_by_store_and_workers_by_clone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(state: str, store: str) -> tuple[str, str]:
        monkeypatch.setenv("STEERFLOW_STATE", state)
        monkeypatch.setenv("STEERFLOW_STORE", store)
        return clone.pool_name("steerflow"), clone.worker_name()

    one, other = names("/a/.state", "/a/store"), names("/b/.state", "/b/store")
    assert one[0] != other[0]
    assert one[1] != other[1]
    fleet = [names("/a/.state", "s3://bucket/x"), names("/b/.state", "s3://bucket/x/")]
    assert fleet[0][0] == fleet[1][0]
    assert fleet[0][1] != fleet[1][1]


def test_a_server_that_serves_another_store_is_not_given_our_deployments(state: Path) -> None:
    """Deployments have one name on a server, so the newcomer's would take the others' place."""
    answers = {
        "/api/deployments/filter": [{"name": "x", "work_pool_name": "steerflow-theirs", "schedules": []}],
        "/api/work_pools/steerflow-theirs/workers/filter": [{"name": "their-worker", "status": "ONLINE"}],
    }
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path]))
    address = clone.Address("http://shared:4200/api", "a:b")
    with httpx.Client(base_url=address.api, transport=transport) as asked:
        with pytest.raises(ServiceError, match=r"another store.*their-worker"):
            deployments._refuse_anothers(asked, address)
        answers["/api/work_pools/steerflow-theirs/workers/filter"][0]["status"] = "OFFLINE"
        deployments._refuse_anothers(asked, address)


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = Background(tmp_path, "server")
    process.start([sys.executable, "-c", "print('no such table: flow_run')"], os.environ)
    with pytest.raises(ServiceError, match=r"ended by itself.*\n.*no such table"):
        wait(process, lambda: False)


# -- what is typed wrong is told at once -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ({"cron": "0 2 * *", "timezone": "Europe/Berlin"}, r"cron '0 2 \* \*'"),
        ({"cron": "61 2 * * *"}, "cron '61"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Berln"}, "timezone 'Europe/Berln'"),
    ],
)
def test_a_bad_schedule_is_one_line_that_names_file_and_deployment(
    tmp_path: Path, schedule: dict[str, str], says: str
) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"deployments": [{"name": "good"}, {"name": "nightly", "schedules": [schedule]}]}))
    with pytest.raises(
        ServiceError, match=rf"prefect.yaml: the deployment 'nightly' has a schedule .*{says}"
    ) as caught:
        deployments.check_schedules(file)
    assert "\n" not in str(caught.value)


def test_the_schedules_that_are_shipped_are_good() -> None:
    deployments.check_schedules(ROOT / "prefect.yaml")


def test_a_misspelt_nightly_is_told_before_anything_is_made(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for word, status in (("of", 2), ("", 2), ("off", 0)):
        command = ["make", "-n", "up", f"NIGHTLY={word}", "PYTHON=python3"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert ("say NIGHTLY=on, or NIGHTLY=off" in done.stderr) == bool(status)
