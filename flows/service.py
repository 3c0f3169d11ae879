"""`python -m flows.service up | down`: Prefect's server, the deployments and one worker, as background processes.

The server binds to loopback. Logs and process ids lie in `.state`. On a machine of its own, use the service files in
`docs/` instead.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prefect.settings import get_current_settings

STATE = Path(".state")
POOL = "steerflow"
SECONDS_TO_START = 90


def up() -> None:
    """Start server, deployments and worker; returns when they answer. What already runs is left running."""
    api = get_current_settings().api.url or "http://127.0.0.1:4200/api"
    url = httpx.URL(api)
    STATE.mkdir(exist_ok=True)
    if not _answers(api):
        _spawn("server", "server", "start", "--host", url.host, "--port", str(url.port or 4200))
        _wait("the server", lambda: _answers(api))
    _prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    _prefect("--no-prompt", "deploy", "--all")
    if not _alive("worker"):
        _spawn("worker", "worker", "start", "--pool", POOL, "--name", "steerflow-worker", "--limit", "1")
    _wait("the worker", lambda: _worker_online(api))
    print(f"Prefect answers at {api.removesuffix('/api')}; now: prefect deployment run discover-vectors")  # noqa: T201


def down() -> None:
    """Stop worker and server, and whatever flow run the worker had in hand."""
    for name in ("worker", "server"):
        if process := _alive(name):
            os.killpg(process, signal.SIGTERM)
            deadline = time.monotonic() + 20
            while _alive(name) and time.monotonic() < deadline:
                time.sleep(0.2)
            if _alive(name):
                os.killpg(process, signal.SIGKILL)
        (STATE / f"{name}.pid").unlink(missing_ok=True)


def _spawn(name: str, *arguments: str) -> None:
    """Start a Prefect command in a session of its own, its output in `.state/NAME.log`."""
    environment = os.environ | {"PREFECT_PLUGINS_ENABLED": "false", "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "0"}
    environment.setdefault("STEERFLOW_DATA", str(Path("data").resolve()))
    environment.setdefault("STEERFLOW_STORE", str(Path("data/store").resolve()))
    with (STATE / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    (STATE / f"{name}.pid").write_text(str(process.pid))


def _prefect(*arguments: str) -> None:
    """Run a Prefect command to its end; its output is shown only where it fails."""
    done = subprocess.run([sys.executable, "-m", "prefect", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"prefect {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def _alive(name: str) -> int | None:
    """Process id of a background process that still runs."""
    file = STATE / f"{name}.pid"
    if not file.exists():
        return None
    process = int(file.read_text())
    try:
        os.kill(process, 0)
        finished, _ = os.waitpid(process, os.WNOHANG)
    except ProcessLookupError:
        return None
    except ChildProcessError:  # alive, and started by an earlier `up`
        return process
    return None if finished else process


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _worker_online(api: str) -> bool:
    found = httpx.post(f"{api}/work_pools/{POOL}/workers/filter", json={}, timeout=5)
    return found.status_code == httpx.codes.OK and any(worker["status"] == "ONLINE" for worker in found.json())


def _wait(what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not answer within {SECONDS_TO_START} s; its log is in {STATE.resolve()}")
        time.sleep(0.5)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
