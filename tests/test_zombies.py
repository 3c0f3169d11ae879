"""The automations that `make up` ships, seen firing: what died without a word goes from Running to Crashed.

Their patience is shortened through their own parameters; all else is as shipped. Minutes long:
`pytest -m slow tests/test_zombies.py`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client

from flows.service.automations import apply, automations
from flows.service.clone import speaking_to
from tests.machine import ROOT, address_of, client, new_machine, until

pytestmark = [pytest.mark.slow, pytest.mark.server]
SILENCE, CLAIMED = timedelta(seconds=60), timedelta(seconds=15)
SLEEPS = (
    "import sys, time\nfrom prefect import flow\n\n@flow(flow_run_name=sys.argv[1])\ndef sleeper() -> None:\n"
    "    time.sleep(float(sys.argv[2]))\n\nsleeper()"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A machine whose flow runs beat every thirty seconds, Prefect's least, and whose server has little patience."""
    folder = tmp_path_factory.mktemp("zombies") / "machine"
    with new_machine(folder, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as environment:
        with speaking_to(address_of(environment)), get_client(sync_client=True) as prefect:
            apply(prefect, automations(SILENCE, CLAIMED))
        yield environment


def sleeper(here: dict[str, str], name: str, seconds: float) -> subprocess.Popen[bytes]:
    """A flow run in a process of its own, of which no worker knows."""
    return subprocess.Popen([sys.executable, "-c", SLEEPS, name, str(seconds)], cwd=ROOT, env=here)


def posted(here: dict[str, str], url: str, body: dict[str, Any]) -> Any:
    """What the server says to `body`, once its database is not busy."""

    def answer() -> Any:
        with client(here) as asked:
            reply = asked.post(url, json=body)
        return None if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE else reply.raise_for_status().json()

    return until(url, answer)


def run_called(here: dict[str, str], name: str) -> dict[str, Any] | None:
    body = {"flow_runs": {"name": {"any_": [name]}}}
    found = posted(here, "/flow_runs/filter", body)
    return found[0] if found else None


def state_of(here: dict[str, str], name: str) -> str:
    run = run_called(here, name)
    return str(run["state_type"]) if run else "ABSENT"


def heartbeats(here: dict[str, str], name: str) -> int:
    run = run_called(here, name)
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "order": "DESC"}
    body = {"filter": wanted | {"resource": {"id": [f"prefect.flow-run.{run['id'] if run else ''}"]}}}
    return len(posted(here, "/events/filter", body)["events"])


def test_a_run_that_falls_silent_is_crashed_and_no_other(here: dict[str, str]) -> None:
    done = sleeper(here, "done", 1)
    zombie, alive = (sleeper(here, name, 600) for name in ("zombie", "alive"))
    try:
        until("all heartbeats", lambda: all(heartbeats(here, name) for name in ("done", "zombie", "alive")))
        assert done.wait() == 0
        os.kill(zombie.pid, signal.SIGKILL)
        zombie.wait()
        died = time.monotonic()
        assert state_of(here, "zombie") == "RUNNING"
        until("the automation", lambda: state_of(here, "zombie") == "CRASHED", 180)
        assert time.monotonic() - died > 20  # silence, not the death itself, is what it goes by
        run = run_called(here, "zombie")
        assert run is not None
        assert run["state"]["message"] == "nothing was heard of it for 60 s"
        assert state_of(here, "alive") == "RUNNING"
        assert heartbeats(here, "alive") >= 2
        assert state_of(here, "done") == "COMPLETED"
    finally:
        for process in (zombie, alive, done):
            process.kill()
            process.wait()


def test_a_run_that_was_claimed_and_never_begun_is_crashed(here: dict[str, str]) -> None:
    flow = posted(here, "/flows/", {"name": "claimed"})
    body = {"flow_id": flow["id"], "name": "claimed", "state": {"type": "SCHEDULED"}}
    run = posted(here, "/flow_runs/", body)
    claim = {"state": {"type": "PENDING", "name": "Pending"}, "force": True}
    posted(here, f"/flow_runs/{run['id']}/set_state", claim)
    assert state_of(here, "claimed") == "PENDING"
    until("the automation", lambda: state_of(here, "claimed") == "CRASHED", 120)
    found = run_called(here, "claimed")
    assert found is not None
    assert found["state"]["message"] == "nothing was heard of it for 15 s"
