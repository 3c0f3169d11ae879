"""The safe dose: the greatest within both bounds of damage, by what was measured of the recommended one."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.evaluation.choice import Rated
from steering_core.evaluation.damage import USUAL
from steering_core.interventions.expression import Amount
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.wanted import neutral
from steering_core.reports.verdict_words import verdict_in_words
from steering_core.scores.measure import measure_neutral
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import cell_values, mean_of
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector
from tests import quick


def recommended(tiny_folder: Path, folder: Path, concept: Concept, **scores: Any) -> tuple[dict[str, Any], Store, Spec]:
    """The recommendation of a run on the tiny model, its store and its spec."""
    spec = Spec.model_validate(
        {
            "models": [str(tiny_folder)],
            "concepts": [str(quick.spec_file(folder, tiny_folder, concept).parent / "loud.yaml")],
            "generations": {"layers": [1], "doses": [0.3], "prompts": 2, "max_tokens": 6, "shortlist": 1},
            "vectors": quick.VECTORS,
            "scores": {**quick.SCORES, "neutral": 6, **scores},
        }
    )
    store = Store(folder / f"store {scores}")
    (row,) = run(spec, store)["recommendations"]
    return row, store, spec


def test_a_safe_dose_is_within_the_bound_of_kl_too(
    tiny: Model, tiny_folder: Path, tmp_path: Path, concept: Concept
) -> None:
    loose, *_ = recommended(tiny_folder, tmp_path, concept, max_kl=9.0)
    row, store, spec = recommended(tiny_folder, tmp_path, concept, max_kl=0.02)
    assert row["dose"] <= row["safe_dose"] < loose["safe_dose"] / 2
    assert (row["dose_low"], row["dose_high"]) == (None, None)
    assert loose["dose_low"] <= loose["safe_dose"] <= loose["dose_high"]
    vectors = tuple(vectors_by_id(store, row["vector_ids"]))
    chosen = Cell(tiny.identity.model_id, concept.concept_id, parse(row["intervention"]), vectors)
    at_safe, at_loose = chosen.at(row["safe_dose"]), chosen.at(loose["safe_dose"])
    did = measure_neutral(
        Setup(tiny, concept), store, [at_safe, at_loose], neutral("validation", spec.scores), "validation", ["kl"]
    )
    kl = [mean_of(values, "kl") for values in cell_values(store, [at_safe, at_loose], did.ids)]
    assert kl[0] == pytest.approx(0.02, rel=0.2)
    assert kl[1] > 0.04
    said = verdict_in_words({**row, "model": "tiny", "concept": "loud"}).plain
    assert "within the spec's max_perplexity_ratio and max_kl up to a dose of" in said


def test_kl_bounds_a_dose_by_its_square_where_it_was_measured(tiny: Model, concept: Concept) -> None:
    vector = Vector("v", tiny.identity.model_id, concept.concept_id, "planted", 1, 10.0, direction=np.ones(32, "f"))
    of = (tiny.identity.model_id, concept.concept_id, "generation", [vector])
    for dose in (0.2, -0.2):
        cell = Cell.adding_amounts(*of, [Amount.of_dose(dose)])
        assert Rated(cell, USUAL, {}, 0.0, 0.01).quiet_dose(0.04) == pytest.approx(0.4)
        assert Rated(cell, USUAL, {}, 0.0, 0.09).quiet_dose(0.01) == pytest.approx(0.2 / 3)
        assert [Rated(cell, USUAL, {}, 0.0, kl).quiet_dose(1.0) for kl in (math.nan, 0.0)] == [math.inf] * 2
