"""The way its users run it: `make up`, `prefect deployment run discover-vectors`, DuckDB."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from steering_core.concepts import Concept
from steering_core.store import connect
from tests.machine import ROOT, service

PREFECT = Path(sys.executable).with_name("prefect")

pytestmark = pytest.mark.server


def spec_file(folder: Path, tiny_folder: Path, concept: Concept) -> Path:
    (folder / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    spec = {"models": [str(tiny_folder)], "concepts": [str(folder / "loud.yaml")], "generations": grid}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"


def test_a_deployment_runs_by_its_bare_name_and_its_results_are_in_duckdb(
    machine: dict[str, str], tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept)
    command = [PREFECT, "deployment", "run", "discover-vectors", "--param", f"spec={spec}", "--watch"]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with connect(machine["STEERFLOW_STORE"]) as connection:
        (found,) = connection.sql("SELECT concept, layer, verdict FROM recommendations").fetchall()
        assert found[:2] == ("loud", 1)
        assert connection.sql("SELECT count(*) FROM activations WHERE layer = 0").fetchall() == [(20,)]
    artifacts = httpx.post(f"{machine['PREFECT_API_URL']}/artifacts/filter", json={}).json()
    assert any(row["key"] == "report" and "loud on" in row["data"] for row in artifacts)
    assert "leaked" not in (Path(machine["STEERFLOW_STATE"]) / "worker.log").read_text()


def test_up_again_starts_nothing_twice(machine: dict[str, str]) -> None:
    files = sorted(Path(machine["STEERFLOW_STATE"]).glob("*.pid"))
    before = [file.read_text() for file in files]
    service("up", machine)
    assert [file.read_text() for file in files] == before


def test_the_server_marks_what_falls_silent_and_up_twice_says_so_once(machine: dict[str, str]) -> None:
    found = httpx.post(f"{machine['PREFECT_API_URL']}/automations/filter", json={}).json()
    names = [row["name"] for row in found if row["name"].startswith("steerflow")]
    assert sorted(names) == ["steerflow: claimed and never begun", "steerflow: no heartbeat"]
