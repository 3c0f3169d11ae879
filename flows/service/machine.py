"""What a flow run holds of its machine, as locks that the kernel frees when its process dies, however it dies."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from prefect import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from flows.service.clone import state_folder
from steering_core.foundation.cache import cache_folder, cache_written

POLL_SECONDS = 1.0  # between two tries to lock: a blocking `flock` could log nothing
SAID_EVERY = 300.0  # seconds between two log lines of a flow run that waits


def flow_runs_folder() -> Path:
    """Where the flow runs of this machine are noted, one file each."""
    return cache_folder() / "flow-runs"


@contextlib.contextmanager
def in_hand(flow_run_id: str) -> Iterator[None]:
    """Note that this process executes a flow run; `flows.service.recovery` finds the note if the process dies."""
    note = flow_runs_folder() / f"{flow_run_id}.json"
    with contextlib.ExitStack() as opened:
        with cache_written():
            note.parent.mkdir(parents=True, exist_ok=True)
            held = opened.enter_context(note.open("w"))
            fcntl.flock(held, fcntl.LOCK_EX)
            about = {"process": os.getpid(), "api": get_current_settings().api.url, "state": str(state_folder())}
            json.dump(about, held)
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
    with contextlib.ExitStack() as opened:
        with cache_written():
            path.parent.mkdir(parents=True, exist_ok=True)
            held = opened.enter_context(path.open("a+"))
        _wait_for(held)
        with cache_written():
            held.truncate(0)
            held.write("\n".join((str(os.getpid()), str(flow_run.name or "a flow run"), str(state_folder().parent))))
            held.flush()
        yield


def device() -> str:
    """What flow runs take turns on here, in words: a name that was given, a CUDA device, a Mac's GPU, the processor."""
    if name := os.environ.get("STEERFLOW_ACCELERATOR"):
        return f"the accelerator {name!r} (STEERFLOW_ACCELERATOR)"
    if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return f"CUDA device {devices}"
    from steering_core.backend.mlx import on_cpu  # loads MLX, which `make up` does without

    return "this machine's processor" if on_cpu() else "this machine's GPU"


def _wait_for(held: IO[str]) -> None:
    """Return once this process holds the lock; until then log every few minutes who does and what helps."""
    said_at = -SAID_EVERY
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - said_at >= SAID_EVERY:
                said_at = time.monotonic()
                get_run_logger().info("%s", _waiting(held))
            time.sleep(POLL_SECONDS)
        else:
            return


def _waiting(held: IO[str]) -> str:
    held.seek(0)
    process, run, clone = (*held.read().split("\n"), "", "", "")[:3]
    who = f"{run!r} of the clone {clone} (process {process})" if clone else f"process {process or '?'}"
    return (
        f"waiting for {device()}: {who} computes on it, and flow runs take turns. For two that see different devices, "
        "set CUDA_VISIBLE_DEVICES, or STEERFLOW_ACCELERATOR to a name of its own, where each worker is started"
    )
