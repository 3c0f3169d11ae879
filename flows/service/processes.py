"""The background processes of a clone: how they are named, started and waited for."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from flows.service.background import Background
from flows.service.clone import Address, pool_name, state_folder, store_address

POOL = "steerflow"  # computes: one flow run at a time on each machine
SWEEPS = "steerflow-sweeps"  # waits for the flow runs of the other
POOLS = (POOL, SWEEPS)
SECONDS_TO_START = 120


class ServiceError(Exception):
    """What could not be started, why, and what to do; printed as one paragraph."""


def background(name: str) -> Background:
    """The background process of that name."""
    return Background(state_folder(), name)


def environment_of(address: Address) -> dict[str, str]:
    """The environment of what belongs to this clone: its server, its store, its pools, wherever the process runs."""
    environment = os.environ | address.environment()
    environment |= {
        "PREFECT_PLUGINS_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "0",
        "STEERFLOW_STATE": str(state_folder()),
        "STEERFLOW_STORE": store_address(),
        "STEERFLOW_POOL": pool_name(POOL),
        "STEERFLOW_SWEEPS": pool_name(SWEEPS),
    }
    environment.setdefault("STEERFLOW_DATA", str(Path("data").resolve()))
    environment.setdefault("PREFECT_CLIENT_MAX_RETRIES", "8")  # a server may be away for eight minutes
    return environment


def wait(process: Background, ready: Callable[[], bool]) -> None:
    """Return once `ready`. Raises ServiceError with the end of the log where the process dies or takes too long."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not ready():
        died = process.process_id is None
        if died or time.monotonic() > deadline:
            why = "ended by itself" if died else f"did not answer within {SECONDS_TO_START} s"
            raise ServiceError(f"the {process.name} {why}; the end of {process.log}:\n{process.last_words()}")
        time.sleep(0.3)
