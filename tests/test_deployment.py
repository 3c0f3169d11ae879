"""The way its users run it: `make up`, `prefect deployment run discover-vectors`, DuckDB."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect as connect_websocket
from websockets.typing import Subprotocol

from steering_core.concepts import Concept
from steering_core.store import connect
from tests.machine import ROOT, address_of, client, service
from tests.quick import spec_file

PREFECT = Path(sys.executable).with_name("prefect")

pytestmark = pytest.mark.server


def test_a_deployment_runs_by_its_bare_name_and_its_results_are_in_duckdb(
    machine: dict[str, str], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept)
    command = [PREFECT, "deployment", "run", "discover-vectors", "--param", f"spec={spec}", "--watch"]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with connect(machine["STEERFLOW_STORE"]) as connection:
        (found,) = connection.sql("SELECT concept, layer, verdict FROM recommendations").fetchall()
        assert found[:2] == ("loud", 1)
        assert connection.sql("SELECT count(*) FROM activations WHERE layer = 0").fetchall() == [(20,)]
    with client(machine) as asked:
        artifacts = asked.post("/artifacts/filter", json={}).json()
        runs = asked.post("/flow_runs/filter", json={}).json()
    assert any(row["key"] == "report" and "loud on" in row["data"] for row in artifacts)
    assert f"discover-vectors: loud on {tiny_folder.name} (spec)" in [run["name"] for run in runs]
    assert "leaked" not in (Path(machine["STEERFLOW_STATE"]) / "worker.log").read_text()


def test_up_again_starts_nothing_twice(machine: dict[str, str]) -> None:
    files = sorted(Path(machine["STEERFLOW_STATE"]).glob("*.pid"))
    before = [file.read_text() for file in files]
    service("up", machine)
    assert [file.read_text() for file in files] == before


def test_the_server_marks_what_falls_silent_and_up_twice_says_so_once(machine: dict[str, str]) -> None:
    with client(machine) as asked:
        found = asked.post("/automations/filter", json={}).json()
    names = [row["name"] for row in found if row["name"].startswith("steerflow")]
    assert sorted(names) == ["steerflow: claimed and never begun", "steerflow: no heartbeat"]


def test_a_spec_that_comes_as_a_parameter_runs_no_file_of_methods(
    machine: dict[str, str], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    """A page or a program that may ask for flow runs may not have files of its choice executed."""
    marker, methods = tmp_path / "was-run", tmp_path / "methods.py"
    methods.write_text(f"open({str(marker)!r}, 'w')\n")
    spec = spec_file(tmp_path, tiny_folder, concept)
    content = yaml.safe_load(spec.read_text()) | {"vectors": {"methods": [f"{methods}:mine"]}}
    spec.write_text(yaml.safe_dump(content))
    command = [PREFECT, "deployment", "run", "discover-vectors", "--param", f"spec={spec}", "--watch"]
    command += ["--flow-run-name", "a name of mine"]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not marker.exists()
    with client(machine) as asked:
        (run,) = asked.post("/flow_runs/filter", json={"flow_runs": {"name": {"any_": ["a name of mine"]}}}).json()
    assert run["state_type"] == "FAILED"
    assert "STEERFLOW_METHOD_FOLDERS" in run["state"]["message"]


@pytest.mark.parametrize(
    ("word", "says"),
    [("discover-vectros", "did you mean 'discover-vectors'?"), ("xyz", "there are: calibrate-alpha, discover-vectors")],
)
def test_a_misspelt_deployment_is_told_in_one_line(machine: dict[str, str], word: str, says: str) -> None:
    command = [PREFECT, "deployment", "run", word]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"There is no deployment {word!r}: " in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


WEB = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1.evil.example:{port}"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "[::1].evil.example"}, 403),
        ({"Host": "127.0.0.1:abc"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({}, 401),
        ({"Authorization": "Basic c3RlZXJmbG93Omd1ZXNzZWQ="}, 401),
    ],
)
def test_a_web_page_runs_no_flow(machine: dict[str, str], headers: dict[str, str], status: int) -> None:
    """A page's requests, with another origin or through a name that resolves to this machine, reach nothing."""
    api = machine["PREFECT_API_URL"]
    sent = WEB | {name: value.replace("{port}", str(httpx.URL(api).port)) for name, value in headers.items()}
    for path in ("flow_runs/filter", "deployments/filter", "flows/"):
        assert httpx.post(f"{api}/{path}", headers=sent, json={"name": "x"}).status_code == status
    with pytest.raises(InvalidStatus if status == 403 else ConnectionClosedError):
        _send_event(api, {name: value for name, value in sent.items() if name != "content-type"})


def _send_event(api: str, headers: dict[str, str]) -> None:
    """Open the websocket of events as a page would, with the password that it guesses."""
    url = f"{api.replace('http', 'ws', 1)}/events/in"
    with connect_websocket(url, additional_headers=headers, subprotocols=[Subprotocol("prefect")]) as socket:
        socket.send('{"type": "auth", "token": "guessed"}')
        while True:
            if '"auth_success"' in str(socket.recv(timeout=10)):
                return


def test_a_web_pages_preflight_is_refused_and_the_servers_own_page_is_not(machine: dict[str, str]) -> None:
    api = machine["PREFECT_API_URL"]
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    foreign = httpx.options(f"{api}/flow_runs/", headers=asks | {"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers
    own = api.removesuffix("/api")
    assert httpx.options(f"{api}/flow_runs/", headers=asks | {"Origin": own}).is_success
    with client(machine) as asked:
        answer = asked.post("/flows/filter", json={}, headers={"Origin": own})
    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == own
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_the_password_is_for_the_owners_eyes(machine: dict[str, str]) -> None:
    file = Path(machine["PREFECT_PROFILES_PATH"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    user, password = address_of(machine).login()
    assert user == "steerflow"
    assert len(password) >= 32
    assert service("password", machine) == f"{user}:{password}\n"
    logs = "".join(log.read_text() for log in Path(machine["STEERFLOW_STATE"]).glob("*.log"))
    assert password not in logs


def test_up_says_what_runs_when_and_nightly_off_leaves_the_sweep_out(machine: dict[str, str]) -> None:
    off = service("deploy", machine, "--nightly", "off")
    with client(machine) as asked:
        on = {row["name"] for row in asked.post("/deployments/filter", json={}).json() if _scheduled(row)}
    assert off == ""
    assert on == {"store-maintenance"}
    said = service("up", machine)
    assert "nightly-sweep: next " in said
    assert " at 02:00 Europe/Berlin (cron 0 2 * * *); `make up NIGHTLY=off` leaves it out" in said
    assert "store-maintenance: next Sunday, " in said


def _scheduled(row: dict[str, Any]) -> bool:
    return any(schedule["active"] for schedule in row["schedules"])
