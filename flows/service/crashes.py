"""Flow runs that crashed and that nobody begins again: those of no sweep, which `make up` names with what to type."""

import datetime
import json
import os
import shlex
from pathlib import Path
from typing import Any

import httpx

from flows.service.clone import profiles_file
from flows.service.deployments import our_deployments

DAYS = 7.0  # before which a crash is old news
MOST = 5  # that are named
_PROFILES = Path(".state/prefect/profiles.toml")  # where `prefect` looks in the repository's root, by pyproject.toml


def run_command() -> str:
    """What is typed in the repository's root before a deployment's name to run it on this clone's server."""
    found = Path(os.environ.get("PREFECT_PROFILES_PATH", _PROFILES)).resolve() == profiles_file()
    where = "" if found else f"PREFECT_PROFILES_PATH={shlex.quote(str(profiles_file()))} "
    return f"{where}.venv/bin/prefect deployment run"


def crashed_alone(client: httpx.Client) -> list[str]:
    """Each flow run of this clone's deployments that crashed lately, outside of any sweep, and what runs it again.

    One is left out once a flow run of the same name has completed after it.
    """
    names = {row["id"]: row["name"] for row in our_deployments(client)}
    since = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=DAYS)).isoformat()
    runs = [run for run in _ended(client, "CRASHED", since) if run["deployment_id"] in names]
    done = {run["name"]: run["end_time"] for run in reversed(_ended(client, "COMPLETED", since))}  # the newest stays
    alone = [run for run in runs if not any(tag.startswith("sweep:") for tag in run["tags"])]
    open_ = {run["name"]: run for run in reversed(alone) if done.get(run["name"], "") < run["end_time"]}
    lines = [f"{name}: {_again(names[run['deployment_id']], run['parameters'])}" for name, run in open_.items()]
    newest = lines[::-1]
    return newest[:MOST] + [f"and {len(newest) - MOST} more on the page"] * (len(newest) > MOST)


def _ended(client: httpx.Client, state: str, since: str) -> list[dict[str, Any]]:
    """Flow runs that ended in a state since then, the newest first."""
    wanted = {"state": {"type": {"any_": [state]}}, "end_time": {"after_": since}}
    answer = client.post("/flow_runs/filter", json={"flow_runs": wanted, "sort": "END_TIME_DESC"})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


def _again(deployment: str, parameters: dict[str, Any]) -> str:
    given = {key: value for key, value in parameters.items() if value is not None}
    return f"{run_command()} {deployment}" + (f" --params {shlex.quote(json.dumps(given))}" if given else "")
