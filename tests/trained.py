"""What tests of training share: a concept of answers in capitals, specs of it on the toy, and their vectors."""

from pathlib import Path

import numpy as np
import yaml

from steering_core.concepts import Concept, Pair
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import derive_vectors
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy


def answered(n: int) -> Concept:
    """Capital answers against small ones to questions without letters."""
    words = ("AB", "CDE", "FG", "HIJK", "LM", "NO", "PQR", "ST", "UVW", "XY")
    pairs = tuple(Pair(prompt=f"{i}?", positive=words[i % 10], negative=words[i % 10].lower()) for i in range(n))
    return Concept(name="answers", pairs=pairs)


def along(direction: np.ndarray) -> float:
    """The cosine of a direction and the one that the toy reads."""
    return float(direction @ toy.axes()[1] / np.linalg.norm(direction))


def spec_of(folder: Path, concept: Concept, tmp_path: Path, **vectors: object) -> Spec:
    """A spec of trained vectors of a concept, beside the mean difference, with two controls of each kind."""
    path = tmp_path / "answers.yaml"
    path.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    return Spec(
        models=(str(folder),),
        concepts=(str(path),),
        vectors={"methods": ("mean_difference", "gradient", "preference"), "controls": 2, **vectors},
        generations={"layers": "all"},
    )


def vectors_of(spec: Spec, store: Store) -> tuple[list[Vector], Run]:
    """Every vector of a spec's one cell, and the run that counted the work."""
    made: list[Vector] = []
    with Run(spec, store, keeps_outcomes=False) as run:
        each_cell(run, lambda run, model, concept: made.extend(derive_vectors(run, model, concept)))
    run.raise_failures({})
    return made, run
