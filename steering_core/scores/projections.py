"""Projections: how far each token of a sampled text lies along a vector, as the untouched model reads it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from steering_core.candidates.cell import MIRRORED, NONE, Trial
from steering_core.candidates.generations import asked
from steering_core.engine.probes import Probe, projections
from steering_core.prompts import open_prompt
from steering_core.scores.metrics import Setup
from steering_core.store import Store


def project_texts(setup: Setup, store: Store, trial: Trial, generation_ids: Sequence[str]) -> int:
    """Have the store hold the projections on the chosen vector of texts without it, with it and with its mirror image.

    The texts answer the first open prompt of the test split; of several vectors the first counts. Returns how many
    texts were projected.
    """
    concept = setup.concept
    if not trial.chosen.vectors or not concept.prompts:
        return 0
    vector, (first,) = trial.chosen.vectors[0], asked(concept, "test", 1)
    wanted = pa.table({"generation_id": pa.array(sorted(generation_ids), pa.string())})
    rows = store.rows(
        "SELECT g.generation_id, g.prompt, g.tokens, g.intervention_id FROM wanted JOIN raw.generations g USING "
        "(generation_id) ANTI JOIN (FROM raw.projections WHERE vector_id = ?) USING (generation_id) WHERE g.prompt = ?",
        [vector.vector_id, first],
        wanted=wanted,
    )
    cells = {cell.intervention_id for cell in trial.cells if cell.control in (None, NONE, MIRRORED)}
    found = []
    for row in (row for row in rows if row["intervention_id"] in cells and row["tokens"]):
        prompt = open_prompt(setup.model, concept, row["prompt"])
        tokens = (*prompt.tokens, *row["tokens"])
        (values,) = projections(setup.model, tokens, [Probe(vector.layer, vector.direction)], setup.work)
        found.append(_row(setup, vector.vector_id, row["generation_id"], row["tokens"], values[len(prompt.tokens) :]))
    return store.append("projections", found)


def _row(
    setup: Setup, vector_id: str, generation_id: str, tokens: Sequence[int], values: np.ndarray
) -> dict[str, object]:
    pieces = [setup.model.continuation([token]) for token in tokens]
    return {"vector_id": vector_id, "generation_id": generation_id, "tokens": pieces, "projections": values.tolist()}
