"""What tests of training share: a concept of answers in capitals, and the vectors of a spec."""

from steering_core.concepts import Concept, Pair
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import derive_vectors
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector


def answered(n: int) -> Concept:
    """Capital answers against small ones to questions without letters."""
    words = ("AB", "CDE", "FG", "HIJK", "LM", "NO", "PQR", "ST", "UVW", "XY")
    pairs = tuple(Pair(prompt=f"{i}?", positive=words[i % 10], negative=words[i % 10].lower()) for i in range(n))
    return Concept(name="answers", pairs=pairs)


def vectors_of(spec: Spec, store: Store) -> tuple[list[Vector], Run]:
    """Every vector of a spec's one cell, and the run that counted the work."""
    made: list[Vector] = []
    with Run(spec, store, keeps_outcomes=False) as run:
        each_cell(run, lambda run, model, concept: made.extend(derive_vectors(run, model, concept)))
    run.raise_failures({})
    return made, run
