"""Specs of runs whose numbers nobody reads: each stage works and each measure is taken, on as little as can be.

With the defaults a run on the tiny model takes 6.7 s of CPU, with these 1.6. The measures themselves are held where
their numbers are known (test_known_answer, test_search, test_scorers, test_capabilities, test_side_effects).
"""

from pathlib import Path
from typing import Any

import yaml

from steering_core.concepts import Concept

SCORES: dict[str, Any] = {
    "bootstrap": 100,
    "answers": 3,
    "kl_tokens": 4,
    "neutral": 2,
    "draws": 2,
    "side_effects": "none",
}
VECTORS: dict[str, Any] = {"controls": 1, "quality_draws": 4}
SPEC: dict[str, Any] = {"scores": SCORES, "vectors": VECTORS}


def spec_file(folder: Path, tiny_folder: Path, concept: Concept) -> Path:
    """A file with the spec of a quick run on the tiny model, beside one with the concept."""
    (folder / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    spec = {"models": [str(tiny_folder)], "concepts": [str(folder / "loud.yaml")], "generations": grid, **SPEC}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"
