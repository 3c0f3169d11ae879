"""`python -m flows.service up | down | deploy | worker POOL`: Prefect's server, deployments, workers on a machine.

`up` and `down` may be called at any time, in any state: `up` starts what does not run yet, `down` stops what does. The
server binds to the host of PREFECT_API_URL, which is loopback unless told otherwise. Logs and process ids lie in
`.state` (STEERFLOW_STATE). For a machine that should do this at every boot, see the service files in
docs/orchestration.md.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from flows.automations import apply, automations
from flows.background import Background
from flows.recovery import recover, stop_flow_runs

POOL = "steerflow"  # computes: one flow run at a time on each machine
SWEEPS = "steerflow-sweeps"  # waits for the flow runs of the other
POOLS = (POOL, SWEEPS)
SECONDS_TO_START = 120
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceError(Exception):
    """What could not be started, why, and what to do; printed as one paragraph."""


def background(name: str) -> Background:
    """The background process of that name."""
    return Background(Path(os.environ.get("STEERFLOW_STATE", ".state")).resolve(), name)


def up() -> None:
    """Start server, deployments and worker; returns when they answer. What already runs is left running."""
    api = _api()
    _serve(api)
    _make_pools(api)
    _start(background("worker"), sys.executable, "-m", "flows.service", "worker", POOL)
    _start(background("sweeper"), sys.executable, "-m", "flows.service", "worker", SWEEPS)
    deploy()
    _wait(background("worker"), lambda: _worker_online(api, POOL))
    _wait(background("sweeper"), lambda: _worker_online(api, SWEEPS))
    print(f"Prefect answers at {api.removesuffix('/api')}; now: prefect deployment run discover-vectors")  # noqa: T201


def deploy() -> None:
    """Have the server hold the work pools, automations and deployments; starts nothing."""
    _make_pools(_api())
    with get_client(sync_client=True) as client:
        apply(client, automations())
    _deploy()


def worker(pool: str) -> None:
    """Become this machine's worker of a pool, once its lost flow runs are back in the queue; never returns.

    One flow run at a time in the pool that computes; sweeps only wait, so many may.
    """
    api = _api()
    for name in recover(api):
        print(f"back in the queue: {name}", flush=True)  # noqa: T201
    limit = ["--limit", "1"] if pool == POOL else []
    command = [
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        pool,
        "--type",
        "process",
        "--name",
        _worker_name(pool),
        *limit,
    ]
    os.execv(sys.executable, [sys.executable, *command])


def _worker_name(pool: str) -> str:
    return os.environ.get("STEERFLOW_WORKER") or f"{pool}-{socket.gethostname()}"


def _api() -> str:
    return get_current_settings().api.url or "http://127.0.0.1:4200/api"


def down() -> None:
    """Stop worker and server, and whatever flow run the worker had in hand."""
    stopped = [name for name in ("worker", "sweeper") if background(name).stop()]
    api = _api()
    if n := stop_flow_runs(api):
        stopped.append(f"{n} flow runs (they go on after the next `make up`)")
    if background("server").stop():
        stopped.append("server")
    print(f"stopped: {', '.join(stopped) or 'nothing was running'}")  # noqa: T201


def _serve(api: str) -> None:
    """Have a server answer at `api`: the one that does already, or a new one."""
    server, url = background("server"), httpx.URL(api)
    if _answers(api):
        if server.process_id is None:
            print(f"A server that `make up` did not start answers at {api}: using it.")  # noqa: T201
        return
    port = url.port or 4200
    if url.host not in LOOPBACK and not _is_ours(url.host):
        raise ServiceError(f"no Prefect server answers at {api}, and it is another machine's: start it there first")
    if server.process_id is None and _listens(url.host, port):
        raise ServiceError(
            f"port {port} of {url.host} is taken by something that is not a Prefect server: stop it, or choose another "
            f"port with PREFECT_API_URL=http://{url.host}:{port + 1}/api (for `make up` and for `prefect` alike)"
        )
    _start(server, sys.executable, "-m", "prefect", "server", "start", "--host", url.host, "--port", str(port))
    _wait(server, lambda: _answers(api))


def _start(process: Background, *command: str) -> None:
    """Start a command in the background, with the store and data of this folder, wherever it runs flows."""
    environment = os.environ | {"PREFECT_PLUGINS_ENABLED": "false", "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "0"}
    environment.setdefault("STEERFLOW_DATA", str(Path("data").resolve()))
    environment.setdefault("STEERFLOW_STORE", str(Path("data/store").resolve()))
    environment.setdefault("PREFECT_SERVER_UI_API_URL", str(get_current_settings().api.url))
    environment.setdefault("PREFECT_CLIENT_MAX_RETRIES", "8")  # a server may be away for eight minutes
    process.start(command, environment)


def _make_pools(api: str) -> None:
    """Have the work pools exist; the first worker that polls one says what its jobs look like."""
    for pool in POOLS:
        made = httpx.post(f"{api}/work_pools/", json={"name": pool, "type": "process"}, timeout=30)
        if made.status_code not in (httpx.codes.CREATED, httpx.codes.CONFLICT):
            raise ServiceError(f"the server at {api} refused the work pool {pool}: {made.status_code} {made.text}")


def _deploy() -> None:
    """Apply prefect.yaml; Prefect's output is shown only where it fails."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")


def _wait(process: Background, ready: Callable[[], bool]) -> None:
    """Until `ready`. Raises ServiceError with the end of the log where the process dies or takes too long."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready():
        died = process.process_id is None
        if died or time.monotonic() > deadline:
            why = "ended by itself" if died else f"did not answer within {SECONDS_TO_START} s"
            raise ServiceError(f"the {process.name} {why}; the end of {process.log}:\n{process.last_words()}")
        time.sleep(0.3)


def _answers(api: str) -> bool:
    """Whether a Prefect server is at `api`: another service would not know its API version."""
    try:
        found = httpx.get(f"{api}/admin/version", timeout=2)
    except httpx.HTTPError:
        return False
    return found.status_code == httpx.codes.OK and found.text.strip('"')[:1].isdigit()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_ours(host: str) -> bool:
    """Whether `host` is an address of this machine, so that a server can be bound to it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _worker_online(api: str, pool: str) -> bool:
    try:
        found = httpx.post(f"{api}/work_pools/{pool}/workers/filter", json={}, timeout=5)
    except httpx.HTTPError:
        return False
    rows = found.json() if found.status_code == httpx.codes.OK else []
    return any(row["name"] == _worker_name(pool) and row["status"] == "ONLINE" for row in rows)


if __name__ == "__main__":
    try:
        words: dict[str, Callable[..., None]] = {"up": up, "down": down, "deploy": deploy, "worker": worker}
        words[sys.argv[1]](*sys.argv[2:])
    except ServiceError as error:
        sys.exit(str(error))
