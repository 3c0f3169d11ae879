"""`up`, `down` and `worker`: callable at any time, in any state."""

import os
import sys
from typing import NoReturn

from flows.service.background import stop_all
from flows.service.clone import (
    Address,
    pool_name,
    profiles_file,
    remembered_api,
    speaking_to,
    state_folder,
    worker_name,
)
from flows.service.crashes import crashed_alone, run_command
from flows.service.deployments import check_schedules, client_of, deploy, online, what_runs_when
from flows.service.processes import POOL, POOLS, SWEEPS, background, environment_of, wait
from flows.service.recovery import recover, stop_flow_runs
from flows.service.server import await_server, have_server

WORKERS = {"worker": POOL, "sweeper": SWEEPS}


def up(address: Address, nightly: bool = True) -> None:
    """Start server, deployments and workers; returns when they answer. What already runs is left running."""
    check_schedules()
    before = remembered_api()
    step(f"server: looking for it, or starting it, at {address.api.removesuffix('/api')}")
    address = have_server(address)
    step(f"server: answers at {address.api.removesuffix('/api')}; its password is kept in {profiles_file()}")
    if before not in (None, address.api):  # its port was taken meanwhile: workers still ask at the old one
        _stop_workers(str(before))
    with speaking_to(address):
        step(f"deployments: work pools {' and '.join(map(pool_name, POOLS))}, automations and prefect.yaml")
        deploy(address, nightly)
        back = recovered(address)
        step(f"workers: {' and '.join(WORKERS)}, logs in {state_folder()}")
        for name, kind in WORKERS.items():
            background(name).start([sys.executable, "-m", "flows.service", "worker", kind], environment_of(address))
        with client_of(address) as client:
            for name, kind in WORKERS.items():
                wait(background(name), lambda kind=kind: worker_name() in online(client, pool_name(kind)))  # type: ignore[misc]
    _say_what_is_up(address, back)


def recovered(address: Address) -> list[str]:
    """What became of flow runs whose process died, before workers start; nothing while all workers run.

    A worker that runs hears of a death itself, and may not have said so yet.
    """
    if all(background(name).process_id is not None for name in WORKERS):
        return []
    with client_of(address) as client:
        return recover(client, address.api)


def step(text: str) -> None:
    """Say at once what is done next: a first start takes a minute or more."""
    print(text, flush=True)  # noqa: T201


def _say_what_is_up(address: Address, back: list[str]) -> None:
    lines = [f"Prefect answers at {address.api.removesuffix('/api')}; its page asks for a password: `make password`."]
    if scheduled := what_runs_when(address):
        lines += ["By itself, while this runs:", *(f"  {line}" for line in scheduled)]
    if back:
        lines += ["After a crash:", *(f"  {line}" for line in back)]
    with client_of(address) as client:
        crashed = crashed_alone(client)
    if crashed:
        lines += ["Crashed, and of no sweep, so nothing begins them again but you:", *(f"  {line}" for line in crashed)]
    lines += [f"Now: {run_command()} discover-vectors"]
    print("\n".join(lines))  # noqa: T201


def down(address: Address) -> None:
    """Stop this clone's workers and server, and whatever flow runs its workers had in hand."""
    stopped = _stop_workers(remembered_api() or address.api)
    if background("server").stop():
        stopped.append("server")
    print(f"stopped: {', '.join(stopped) or 'nothing was running'}")  # noqa: T201


def _stop_workers(api: str) -> list[str]:
    """End the workers, and the flow runs of the server at `api` that they had in hand; what was ended."""
    stopped = [process.name for process in stop_all([background(name) for name in WORKERS])]
    if n := stop_flow_runs(api):
        stopped.append(f"{n} flow runs (they go on after the next `make up`)")
    return stopped


def worker(address: Address, kind: str) -> NoReturn:
    """Become this clone's worker of a kind of pool, once its lost flow runs are back in the queue.

    One flow run at a time in the pool that computes; sweeps only wait, so many may.
    """
    await_server(address)
    environment = environment_of(address)
    os.environ["STEERFLOW_STATE"] = environment["STEERFLOW_STATE"]
    with client_of(address) as client:
        for line in recover(client, address.api):
            print(line, flush=True)  # noqa: T201
    limit = ["--limit", "1"] if kind == POOL else []
    command = ["-m", "prefect", "worker", "start", "--pool", pool_name(kind), "--type", "process"]
    command += ["--name", worker_name(), *limit]
    os.execve(sys.executable, [sys.executable, *command], environment)
