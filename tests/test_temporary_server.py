"""The server of `make discover`: closed to web pages, gone with its process, and plain about why it did not start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from steering_core.concepts import Concept
from tests import quick
from tests.machine import ROOT

START = """
import os
from flows.service.temporary import start_temporary_server
server = start_temporary_server()
server.wait()
print(os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"], flush=True)
input()
"""


@pytest.fixture(scope="module")
def machine_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A machine on which Prefect knows of nothing at first: making its database takes twenty seconds."""
    home = tmp_path_factory.mktemp("prefect")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture
def environment(machine_of_its_own: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """That machine, with a store of the test's own."""
    return machine_of_its_own | {"STEERFLOW_STORE": str(tmp_path / "store")}


def started(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Python with these words, as a terminal starts it: in a process group of its own."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes
    )


def gone(api: str, seconds: float) -> bool:
    """Whether a server stops answering within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{api}/health")
        except httpx.ConnectError:
            return True
        time.sleep(0.1)
    return False


def here_and_now(spec: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `python -m flows SPEC` prints."""
    command = [sys.executable, "-m", "flows", spec]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.server
def test_it_answers_to_its_own_process_and_to_no_web_page_and_ends_with_it(environment: dict[str, str]) -> None:
    with started(["-c", START], environment) as process:
        assert process.stdout is not None
        api, _, auth = process.stdout.readline().strip().partition(" ")
        login = tuple(auth.split(":"))

        def posted(**given: object) -> int:
            return httpx.post(f"{api}/flows/filter", json={}, **given).status_code  # type: ignore[arg-type]

        assert posted(auth=login) == httpx.codes.OK
        assert posted() == httpx.codes.UNAUTHORIZED
        assert posted(auth=login, headers={"Origin": "https://evil.example"}) == httpx.codes.FORBIDDEN
        assert posted(auth=login, headers={"Host": "evil.example"}) == httpx.codes.FORBIDDEN
        process.communicate("\n")
    assert gone(api, 0.1)


@pytest.mark.server
def test_it_outlives_no_kill(environment: dict[str, str]) -> None:
    with started(["-c", START], environment) as process:
        assert process.stdout is not None
        api = process.stdout.readline().partition(" ")[0]
        process.kill()
    assert gone(api, 30.0)


@pytest.mark.server
def test_a_run_that_ctrl_c_stops_ends_at_once_and_says_how_to_go_on(
    environment: dict[str, str], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    """The server still hears that the flow run crashed; Prefect's clients wait for minutes for one that has gone."""
    spec = quick.spec_file(tmp_path, tiny_folder, concept)
    spec.write_text(spec.read_text().replace("max_tokens: 3", "max_tokens: 4000"))
    with started(["-m", "flows", str(spec)], environment) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("Finished in state" in line for line in lines)
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        said = list(lines)
        assert process.wait() == 130
    assert time.monotonic() - begun < 60
    assert any("Crashed(" in line for line in said)
    assert said[-1].startswith("Stopped. What was computed is kept in the store")
    assert not [line for line in said if "Traceback" in line or "refused" in line]


def test_one_that_does_not_start_says_why(environment: dict[str, str]) -> None:
    environment["PREFECT_API_DATABASE_CONNECTION_URL"] = "nothing://"
    asked = subprocess.run(
        [sys.executable, "-c", START], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 1
    assert "Prefect's temporary server ended with code" in asked.stderr
    assert "nothing" in asked.stderr.partition("ended with code")[2]


@pytest.mark.server
def test_a_run_here_and_now_prints_its_report_and_leaves_nothing_behind(
    environment: dict[str, str], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    asked = here_and_now(str(quick.spec_file(tmp_path, tiny_folder, concept)), environment)
    assert asked.returncode == 0, asked.stderr
    assert "What was computed" in asked.stdout
    assert "Finished in state Completed()" in asked.stderr
    for unwanted in ("View at", "Error", "leaked", "Traceback"):
        assert unwanted not in asked.stderr
    refused = here_and_now("no-such-spec", environment)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("SpecError")
