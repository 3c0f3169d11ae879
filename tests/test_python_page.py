"""docs/python.md is true: its blocks run in order, on the tiny model, and every public name is in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import steering_core as steer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
TINY = {
    "layer=15": "layer=2",
    "[15]": "[2]",
    '"scores": {': '"vectors": {"controls": 1}, "scores": {"items": 4, "bootstrap": 100, ',
}
"""What the tiny model, which has four layers, makes of the page's numbers; and fewer items, for speed."""


def test_its_blocks_run_one_after_another(tiny_folder: Path, tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    for written, meant in {"smollm2-135m": str(tiny_folder), **TINY}.items():
        assert written in code
        code = code.replace(written, meant)
    environment = {**os.environ, "STEERFLOW_STORE": str(tmp_path / "store")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<Report of run" in done.stdout
    assert (tmp_path / "dose_response.svg").read_text().startswith("<svg")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_every_public_name_is_on_it() -> None:
    told = {
        "Activations",
        "DoseSweep",
        "LayerSweep",
        "Report",
        "Rows",
        "Picture",
        "Model",
        "Sampling",
        "Spec",
        "Concept",
    }  # what is given back
    missing = [name for name in steer.__all__ if name not in told and not re.search(rf"\b{name}\b", PAGE)]
    assert not missing
