"""What the server is told: work pools, automations, deployments; and what it says that it will run by itself."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import get_client
from prefect.server.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows.service.automations import apply, automations
from flows.service.clone import Address, pool_name, worker_name
from flows.service.processes import POOLS, ServiceError, environment_of

TAG = "steerflow"
NIGHTLY = "nightly-sweep"
PREFECT_YAML = Path("prefect.yaml")


def client_of(address: Address) -> httpx.Client:
    """A client of the server's API."""
    return httpx.Client(base_url=address.api, auth=address.login(), timeout=30)


def deploy(address: Address, nightly: bool = True) -> None:
    """Have the server hold pools, automations and deployments, `nightly-sweep` with or without its schedule."""
    check_schedules()
    with client_of(address) as client:
        _refuse_anothers(client, address)
        _make_pools(client)
    with get_client(sync_client=True) as prefect:
        apply(prefect, automations())
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = environment_of(address) | {"STEERFLOW_NIGHTLY": str(nightly).lower()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")


def check_schedules(file: Path = PREFECT_YAML) -> None:
    """Raise ServiceError, of one line, for a schedule in prefect.yaml that Prefect would refuse."""
    try:
        deployments = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("deployments") or []
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise ServiceError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    for deployment in deployments:
        for schedule in deployment.get("schedules") or []:
            given = {key: schedule[key] for key in ("cron", "timezone") if key in schedule}
            try:
                CronSchedule.model_validate(given if "cron" in given else {"cron": "0 0 * * *"} | given)
            except ValidationError as error:
                why = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
                said = ", ".join(f"{key} {value!r}" for key, value in given.items())
                raise ServiceError(
                    f"{file}: the deployment {deployment.get('name')!r} has a schedule that is none ({said}): {why}. "
                    "A cron is minute, hour, day, month and weekday, as in '0 2 * * *'"
                ) from error


def _make_pools(client: httpx.Client) -> None:
    """Have the work pools exist; the first worker that polls one says what its jobs look like."""
    for kind in POOLS:
        made = client.post("/work_pools/", json={"name": pool_name(kind), "type": "process"})
        if made.status_code not in (httpx.codes.CREATED, httpx.codes.CONFLICT):
            where = f"the server at {client.base_url}"
            raise ServiceError(f"{where} refused the work pool {pool_name(kind)}: {made.status_code} {made.text}")


def _refuse_anothers(client: httpx.Client, address: Address) -> None:
    """Raise ServiceError where workers of another store's pool live on the deployments that would be changed here."""
    ours = {pool_name(kind) for kind in POOLS}
    pools = {row["work_pool_name"] for row in our_deployments(client)} - ours - {None}
    for pool in sorted(pools):
        if workers := sorted(set(online(client, pool)) - {worker_name()}):
            raise ServiceError(
                f"the server at {address.api} runs flows for another store (work pool {pool}, workers "
                f"{', '.join(workers)}), and its deployments cannot serve two: give both the same STEERFLOW_STORE, "
                "stop those workers, or leave PREFECT_API_URL out, so that this clone has a server of its own"
            )


def our_deployments(client: httpx.Client) -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, as the server holds them."""
    body = {"deployments": {"tags": {"all_": [TAG]}}, "sort": "NAME_ASC"}
    found: list[dict[str, Any]] = client.post("/deployments/filter", json=body).raise_for_status().json()
    return found


def online(client: httpx.Client, pool: str) -> list[str]:
    """Names of the workers of a pool that are online."""
    try:
        found = client.post(f"/work_pools/{pool}/workers/filter", json={})
    except httpx.HTTPError:
        return []
    rows = found.json() if found.status_code == httpx.codes.OK else []
    return [row["name"] for row in rows if row["status"] == "ONLINE"]


def what_runs_when(address: Address) -> list[str]:
    """A line for every schedule that is on, with its next time, and what leaves it out."""
    with client_of(address) as client:
        rows = our_deployments(client)
    on = [(row["name"], schedule["schedule"]) for row in rows for schedule in row["schedules"] if schedule["active"]]
    return [_line(name, schedule) for name, schedule in on]


def _line(name: str, schedule: dict[str, Any]) -> str:
    given = CronSchedule.model_validate(schedule)
    (at,) = asyncio.run(given.get_dates(1, datetime.now(UTC)))
    off = "; `make up NIGHTLY=off` leaves it out" if name == NIGHTLY else ""
    return f"{name}: next {at:%A, %d %B at %H:%M} {given.timezone} (cron {given.cron}){off}"
