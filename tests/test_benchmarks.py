"""Every script under benchmarks/ still runs: one tiny round of each, on a tiny random model."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.telling import LEFT_OUT

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if 'if __name__ == "__main__":' in p.read_text())


def test_there_are_scripts() -> None:
    assert {"extraction", "generation", "gpu", "evaluation"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_tiny_round(script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs something that is absent here is left out by the script itself, with its reason; the rest has run."""
    monkeypatch.setenv("PREFECT_API_URL", "")  # a server of this machine's is nobody's to write to
    importlib.import_module(f"benchmarks.{script}").main(["--tiny"])
    said = capsys.readouterr().out
    assert said
    if absent := [line for line in said.splitlines() if line.startswith(LEFT_OUT)]:
        pytest.skip("; ".join(absent))


@pytest.mark.server
def test_a_tiny_round_beside_a_prefect_server(machine: dict[str, str]) -> None:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert LEFT_OUT not in done.stdout
    assert "13 task runs for 1 cells" in done.stdout


@pytest.mark.server
def test_a_tiny_round_beside_a_prefect_server_locks_nothing(machine: dict[str, str]) -> None:
    command = [sys.executable, "-m", "benchmarks.server_locks", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, env=machine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ": 0 times locked, 0 requests failed" in done.stdout
