"""What a flow run holds of its machine, as locks that the kernel frees when its process dies, however it dies."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from prefect import get_run_logger
from prefect.settings import get_current_settings

from flows.service.clone import state_folder
from steering_core.foundation.cache import cache_folder


def flow_runs_folder() -> Path:
    """Where the flow runs of this machine are noted, one file each."""
    return cache_folder() / "flow-runs"


@contextlib.contextmanager
def in_hand(flow_run_id: str) -> Iterator[None]:
    """Note that this process executes a flow run; `flows.service.recovery` finds the note if the process dies."""
    note = flow_runs_folder() / f"{flow_run_id}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        json.dump({"process": os.getpid(), "api": get_current_settings().api.url, "state": str(state_folder())}, held)
        held.flush()
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


def is_held(file: Path) -> bool:
    """Whether a living process holds a lock on `file`."""
    try:
        with file.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@contextlib.contextmanager
def accelerator() -> Iterator[None]:
    """Hold this machine's accelerator: one flow run at a time computes on it, the next waits.

    Processes that see different devices (CUDA_VISIBLE_DEVICES, or STEERFLOW_ACCELERATOR, any name) do not wait for
    each other.
    """
    name = os.environ.get("STEERFLOW_ACCELERATOR") or os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
    path = cache_folder() / "locks" / f"accelerator-{name.replace('/', '_')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as held:
        _wait_for(held, name)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


def _wait_for(held: IO[str], name: str) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        get_run_logger().info("waiting for accelerator %s, which process %s holds", name, held.read() or "?")
        fcntl.flock(held, fcntl.LOCK_EX)
