"""kill -9 of a flow's process, of the worker and of the server: the sweep completes, and nothing is computed twice.

Minutes long: `pytest -m slow tests/test_crash.py`.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.service.background import Background
from steering_core.concepts import Concept
from steering_core.store import Store
from tests.machine import PREFECT, ROOT, completed, flow_runs, new_machine, service, until

pytestmark = [pytest.mark.slow, pytest.mark.server]
CONCEPTS = ("loud", "soft", "odd", "even")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A machine of its own, so that killing its server hurts no other test."""
    with new_machine(tmp_path / "machine") as environment:
        yield environment


@pytest.fixture
def spec(tmp_path: Path, tiny_folder: Path, concept: Concept) -> Path:
    for name in CONCEPTS:
        named = concept.model_copy(update={"name": name, "prompts": (f"Say something {name}", *concept.prompts)})
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(named.model_dump(mode="json", exclude_none=True)))
    files = [str(tmp_path / f"{name}.yaml") for name in CONCEPTS]
    grid = {"layers": [1, 2], "doses": [0.5], "prompts": 2, "max_tokens": 6}
    (tmp_path / "spec.yaml").write_text(
        yaml.safe_dump({"name": "crash", "models": [str(tiny_folder)], "concepts": files, "generations": grid})
    )
    return tmp_path / "spec.yaml"


def start_sweep(here: dict[str, str], spec: Path) -> None:
    command = [str(PREFECT), "deployment", "run", "nightly-sweep", "--param", f"spec={spec}"]
    subprocess.run(command, cwd=ROOT, env=here, check=True, capture_output=True)


def half_done(here: dict[str, str]) -> bool:
    """Whether the sweep is in the midst of its cells: one is finished, and not all are."""
    if not (Path(here["STEERFLOW_STORE"]) / "store.json").exists():
        return False
    return 1 <= len(finished(here)) < len(CONCEPTS)


def finished(here: dict[str, str]) -> list[dict[str, Any]]:
    return Store(here["STEERFLOW_STORE"]).rows("SELECT * FROM raw.outcomes")


def check(here: dict[str, str]) -> None:
    """Every cell is there, no result twice, and nothing says that it is running."""
    store = Store(here["STEERFLOW_STORE"])
    cells = store.rows("SELECT concept, outcome FROM sweep_summary")
    assert sorted((c["concept"], c["outcome"]) for c in cells) == [(name, "completed") for name in sorted(CONCEPTS)]
    for table, key in (("generations", "generation_id"), ("measurements", "measurement_id"), ("vectors", "vector_id")):
        (row,) = store.rows(f"SELECT count(*) AS n, count(DISTINCT {key}) AS distinct_n FROM raw.{table}")
        assert row["n"] == row["distinct_n"], table
    assert not [run["name"] for run in flow_runs(here) if run["state_type"] in ("RUNNING", "PENDING")]


def processes(pattern: str, here: dict[str, str]) -> list[int]:
    """Processes of this machine's environment whose command line holds `pattern`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mine = f"PREFECT_API_URL={here['PREFECT_API_URL']}".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if mine and pattern in command:
            found.append(int(folder.name))
    return found


def kill_discovery(here: dict[str, str]) -> None:
    """kill -9 of the process that computes: the one that holds a note and is not the sweep's own."""
    os.kill(computing(here), signal.SIGKILL)


def computing(here: dict[str, str]) -> int:
    """The process that holds the accelerator."""
    return int((Path(here["STEERFLOW_CACHE"]) / "locks" / "accelerator-0").read_text().split("\n")[0])


def test_a_killed_flow_process_is_tried_again_by_its_sweep(here: dict[str, str], spec: Path) -> None:
    start_sweep(here, spec)
    until("a finished cell", lambda: half_done(here))
    kill_discovery(here)
    until("the sweep's end", lambda: completed(here))
    check(here)
    assert [run["state_type"] for run in flow_runs(here) if run["name"].startswith("discover")] == [
        "CRASHED",
        "COMPLETED",
    ]


def test_a_machine_that_dies_goes_on_where_it_was(here: dict[str, str], spec: Path) -> None:
    """Worker, sweeper and both flow processes are killed at once; the next `make up` puts the flow runs back."""
    start_sweep(here, spec)
    until("a finished cell", lambda: half_done(here))
    state = Path(here["STEERFLOW_STATE"])
    for process in (Background(state, "worker").process_id, Background(state, "sweeper").process_id):
        assert process is not None
        os.kill(process, signal.SIGKILL)
    for process in processes("prefect", here):
        if process != Background(state, "server").process_id:
            os.kill(process, signal.SIGKILL)
    service("up", here)
    until("the sweep's end", lambda: completed(here))
    check(here)


def test_a_killed_server_is_waited_for(here: dict[str, str], spec: Path) -> None:
    start_sweep(here, spec)
    until("a finished cell", lambda: half_done(here))
    server = Background(Path(here["STEERFLOW_STATE"]), "server").process_id
    assert server is not None
    os.kill(server, signal.SIGKILL)
    time.sleep(3)
    service("up", here)
    until("the sweep's end", lambda: completed(here))
    check(here)
