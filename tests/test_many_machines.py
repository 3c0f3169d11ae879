"""Two machines: workers that share a Postgres-backed server and a store behind the S3 protocol.

Minutes long, and it needs PostgreSQL's programs: `pytest -m slow tests/test_many_machines.py`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

from flows.service.background import Background
from flows.service.deployments import online
from steering_core.concepts import Concept
from steering_core.store import Store
from tests.machine import PREFECT, ROOT, client, completed, free_port, new_machine, until
from tests.tiny import save_tiny_model

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(not (PROGRAMS or shutil.which("initdb")), reason="PostgreSQL is not installed"),
]


def postgres_command(name: str, *arguments: str) -> list[str]:
    """A PostgreSQL program, run as its own user where this one is root, whom it refuses."""
    program = str(PROGRAMS[-1] / name) if PROGRAMS else name
    return [*(["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []), program, *arguments]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    data, port = folder / "data", free_port()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(postgres_command("initdb", "-D", str(data), "-A", "trust", "-U", "prefect"), **quiet)  # type: ignore[call-overload]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    start = postgres_command("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
    subprocess.run(start, **quiet)  # type: ignore[call-overload]
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(postgres_command("pg_ctl", "-D", str(data), "-m", "immediate", "stop"), **quiet)  # type: ignore[call-overload]


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which s3://steerflow answers."""
    port = free_port()
    served = Background(folder, "s3")
    served.start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], os.environ)
    url = f"http://127.0.0.1:{port}"
    try:
        until("the object store", lambda: answers(url), 60)
        httpx.put(f"{url}/steerflow").raise_for_status()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "STEERFLOW_STORE": "s3://steerflow/store",
        }
    finally:
        served.stop()


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return False
    return True


def test_two_machines_share_a_sweep(tmp_path: Path, concept: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [str(save_tiny_model(tmp_path / f"tiny{seed}", seed=seed)) for seed in (1, 2)]
    (tmp_path / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    spec = {
        "name": "two",
        "models": models,
        "concepts": [str(tmp_path / "loud.yaml")],
        "generations": grid,
        "scores": {"side_effects": "none"},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with (
        TemporaryDirectory() as apart,  # not under pytest's folder, which only this user may enter
        postgres(Path(apart)) as database,
        object_store(tmp_path / "s3") as shared,
    ):
        for name, value in shared.items():
            monkeypatch.setenv(name, value)
        with new_machine(tmp_path / "one", PREFECT_API_DATABASE_CONNECTION_URL=database, **shared) as one:
            two = one | {"STEERFLOW_CACHE": str(tmp_path / "two"), "STEERFLOW_WORKER": "two"}
            worker = Background(tmp_path, "two-worker")
            worker.start([sys.executable, "-m", "flows.service", "worker", "steerflow"], two)
            try:
                until("the second worker", lambda: "two" in workers(one), 120)
                wanted = f"spec={tmp_path / 'spec.yaml'}"
                command = [str(PREFECT), "deployment", "run", "nightly-sweep", "--param", wanted]
                subprocess.run(command, cwd=ROOT, env=one, check=True, capture_output=True)
                until("the sweep's end", lambda: completed(one), 400)
            finally:
                worker.stop()
        computed_on = [Path(m["STEERFLOW_CACHE"], "locks", "accelerator-0").exists() for m in (one, two)]
        assert computed_on == [True, True]
        cells = Store("s3://steerflow/store").rows("SELECT model, outcome FROM sweep_summary ORDER BY model")
        assert [(cell["model"], cell["outcome"]) for cell in cells] == [(model, "completed") for model in models]


def workers(here: dict[str, str]) -> list[str]:
    """Names of the workers that are online."""
    with client(here) as asked:
        pools = asked.post("/work_pools/filter", json={}).json()
        time.sleep(0.5)
        return [name for pool in pools for name in online(asked, pool["name"])]
