"""The examples run, in the order in which one needs the other, on the embedded model and one store."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("discover", "direction_of_a_classifier", "conversation", "steer_with_two_texts")


def test_every_example_is_run_and_short() -> None:
    files = sorted((ROOT / "examples").glob("*.py"))
    assert {file.stem for file in files} == set(ORDER)
    assert all(len(file.read_text().splitlines()) <= 40 for file in files)


@pytest.mark.real
def test_the_examples_run(tmp_path: Path) -> None:
    said = {}
    for name in ORDER:
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(tmp_path / "store")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        said[name] = done.stdout
    assert said["discover"].startswith("sentiment: ")
    assert said["direction_of_a_classifier"].strip()
    base, steered = said["conversation"].strip().splitlines()[0], said["conversation"].strip().splitlines()[-1]
    assert base != steered
    assert "<Model smollm2-135m: llama, 30 layers, width 576, float32" in said["steer_with_two_texts"]
