"""A machine of its own for the tests that need a Prefect server: `make up` and `make down` on a free port."""

import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from flows.service.clone import Address
from flows.service.deployments import client_of

ROOT = Path(__file__).parent.parent
PREFECT = Path(sys.executable).with_name("prefect")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def service(word: str, environment: Mapping[str, str], *options: str) -> str:
    """What `make up` or `make down` prints; it must succeed."""
    command = [sys.executable, "-m", "flows.service", word, *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without what concerns Prefect, steerflow, or a `make` around it."""
    left_out = ("PREFECT_", "STEERFLOW_", "MAKE", "MFLAGS")
    return {k: v for k, v in os.environ.items() if not k.startswith(left_out)}


def address_of(environment: Mapping[str, str]) -> Address:
    """Where a machine's server answers, and its password, as `make up` keeps them."""
    profiles = tomllib.loads(Path(environment["PREFECT_PROFILES_PATH"]).read_text())["profiles"]
    kept = profiles["steerflow"]
    return Address(kept["PREFECT_API_URL"], kept["PREFECT_API_AUTH_STRING"])


def client(environment: Mapping[str, str]) -> httpx.Client:
    """A client of a machine's server, that knows its password."""
    return client_of(address_of(environment))


@contextmanager
def new_machine(folder: Path, **changed: str) -> Iterator[dict[str, str]]:
    """The environment of a machine on which `make up` has run, with these variables changed; `make down` ends it."""
    (folder / "prefect").mkdir(parents=True)
    environment = clean_environment() | {
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(folder / "state" / "prefect" / "profiles.toml"),
        "STEERFLOW_STATE": str(folder / "state"),
        "STEERFLOW_STORE": str(folder / "store"),
        "STEERFLOW_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
        **changed,
    }
    try:
        service("up", environment)
        yield environment
    finally:
        stopped = service("down", environment)
    assert "worker" in stopped
    assert "server" in stopped
    assert "nothing" in service("down", environment)


def until(what: str, ready: Callable[[], Any], seconds: float = 240) -> Any:
    """What `ready` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}")


def completed(here: dict[str, str]) -> bool:
    """Whether the sweep and the last flow run that it waited for have ended well."""
    try:
        runs = flow_runs(here)
    except httpx.HTTPError:
        return False
    return any(run["name"].startswith("nightly-sweep") and run["state_type"] == "COMPLETED" for run in runs)


def flow_runs(here: dict[str, str]) -> list[dict[str, Any]]:
    """Flow runs that have begun, the oldest first."""
    with client(here) as asked:
        answer = asked.post("/flow_runs/filter", json={"sort": "START_TIME_ASC"})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return [run for run in found if run["state_type"] != "SCHEDULED" or run["start_time"]]
