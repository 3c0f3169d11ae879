"""After a death: flow runs of this machine whose process is gone go back into the queue, at once.

A worker that is killed, or a machine that loses power, cannot tell the server that its flow runs ended; they would say
"Running" until the zombie automation (`flows.service.automations`) marks them. The kernel knows better: a flow run's
process holds a lock (`flows.service.machine.in_hand`), so whoever starts the worker again finds the notes that nobody
holds. The flow run starts over, and finds in the store what it had done.
"""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx

from flows.service.clone import state_folder
from flows.service.machine import flow_runs_folder, is_held

ATTEMPTS = 5  # starts of one flow run, after which it counts as the cause of the deaths
SECONDS_TO_STOP = 20.0


def recover(client: httpx.Client, api: str) -> list[str]:
    """Reschedule the flow runs of the server at `api` that died in this clone's hands; what became of each, by name."""
    lost = [note for note in notes(api) if not is_held(note)]
    return [said for note in lost for said in _reschedule(client, note)]


def stop_flow_runs(api: str) -> int:
    """End the flow runs of the server at `api` that this clone executes; how many. `recover` restarts them later."""
    running = [note for note in notes(api) if is_held(note)]
    for note in running:
        _signal(note, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while any(is_held(note) for note in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    for note in running:
        _signal(note, signal.SIGKILL)
    return len(running)


def notes(api: str) -> list[Path]:
    """Notes of flow runs that a process of this clone executes, or died over, for the server at `api`."""
    found = sorted(flow_runs_folder().glob("*.json")) if flow_runs_folder().exists() else []
    ours = {"api": api, "state": str(state_folder())}
    return [note for note in found if ours.items() <= _content(note).items()]


def _content(note: Path) -> dict[str, Any]:
    """What a note says; empty where it was removed meanwhile, or its process died while it wrote the note."""
    try:
        content: dict[str, Any] = json.loads(note.read_text() or "{}")
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content


def _signal(note: Path, number: int) -> None:
    """Send a signal to the process that executes a note's flow run, unless it is gone."""
    if is_held(note) and "process" in (content := _content(note)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(content["process"], number)


def _reschedule(client: httpx.Client, note: Path) -> list[str]:
    """Put the flow run of a note back into the queue where the server takes it for running; its name."""
    answer = client.get(f"/flow_runs/{note.stem}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        note.unlink(missing_ok=True)
        return []
    run = answer.raise_for_status().json()
    said = []
    if run["state_type"] in ("RUNNING", "PENDING"):
        state, outcome = _next_state(run)
        client.post(f"/flow_runs/{note.stem}/set_state", json={"state": state, "force": True}).raise_for_status()
        said = [f"{run['name']}: {outcome}"]
    note.unlink(missing_ok=True)
    return said


def _next_state(run: dict[str, Any]) -> tuple[dict[str, str], str]:
    """The state of a flow run whose process died, and that in words."""
    why = f"its process died on {socket.gethostname()}; what it had done is in the store"
    if not run["deployment_id"]:
        return {"type": "CRASHED", "name": "Crashed", "message": "its process died"}, "crashed, its process died"
    if run["run_count"] >= ATTEMPTS:
        died = f"it died {run['run_count']} times"
        return {"type": "CRASHED", "name": "Crashed", "message": f"{why}; {died}"}, f"crashed for good, {died}"
    return {"type": "SCHEDULED", "name": "AwaitingRetry", "message": why}, "back in the queue, its process had died"
