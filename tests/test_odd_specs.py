"""Every verb that takes a spec runs every odd one: limited layers, no controls, expressions alone, one item."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from steering_core.concepts import Concept
from steering_core.foundation.errors import SteerflowError
from tests import quick

VERBS = ("plan", "run", "calibrate", "sweep-layers")
GRID: dict[str, Any] = {"layers": [1, 2], "doses": [0.5], "prompts": 1, "samples": 1, "max_tokens": 2}
ODD: dict[str, dict[str, Any]] = {
    "few layers extracted, all steered": {"activations": {"layers": [1, 2]}, "generations": GRID | {"layers": "all"}},
    "few layers extracted, others steered": {"activations": {"layers": [1]}, "generations": GRID | {"layers": [3]}},
    "few layers extracted, layers left out": {"activations": {"layers": [0]}, "generations": {"doses": [0.5]} | GRID},
    "one layer, the first": {"activations": {"layers": [0]}, "generations": GRID | {"layers": [0]}},
    "alphas": {"generations": {k: v for k, v in GRID.items() if k != "doses"} | {"alphas": [-1, 0.5]}},
    "no controls, no qualities": {"vectors": {"controls": 0, "quality_draws": 0}},
    "read at the last token": {"activations": {"position": "last"}},
    "two methods": {"vectors": {"methods": ["mean_difference", "pca_centred"]}},
    "an expression": {"generations": GRID | {"expressions": ["!loud/mean_difference/1"]}},
    "one item": {"scores": quick.SCORES | {"items": 1}},
    "acting on the prompt": {"generations": GRID | {"phase": "prompt"}},
}


@pytest.mark.parametrize("odd", ODD)
def test_every_verb_runs_it(tiny_folder: Path, concept: Concept, tmp_path: Path, odd: str) -> None:
    (tmp_path / "loud.json").write_text(concept.model_dump_json(exclude_none=True))
    spec = {
        "models": [str(tiny_folder)],
        "concepts": [str(tmp_path / "loud.json")],
        "generations": GRID,
        **quick.SPEC,
    }
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(spec | ODD[odd]))
    for verb in VERBS:
        app = importlib.import_module(f"steering_core.cli.{verb.replace('-', '_')}").app
        form = ["--json"] if verb == "run" else ["--format", "json"]
        done = CliRunner().invoke(app, [str(tmp_path / "odd.yaml"), "--store", str(tmp_path / "store"), *form])
        assert done.exit_code == 0, f"{verb}: {done.exception!r}"
        assert not isinstance(done.exception, SteerflowError)
        found = json.loads(done.stdout)
        assert found["recommendations"] if verb == "run" else found, verb
    if odd.startswith("few layers extracted, all"):
        assert {row["layer"] for row in found} == {1, 2}
