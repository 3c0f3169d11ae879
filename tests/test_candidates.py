"""Candidates of several vectors: their dose, their controls, and that what is printed steers the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from steering_core.api import generate as api
from steering_core.candidates.cell import RANDOM, Cell, Trial, mirrored, unsteered
from steering_core.candidates.chance_controls import chance_controls
from steering_core.candidates.combine import combined
from steering_core.candidates.generations import generate
from steering_core.concepts import Item
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.choice import Choice, choose, rated
from steering_core.evaluation.forms import Forms
from steering_core.evaluation.recommendations import Evidence, recommend
from steering_core.evaluation.search import Search, SearchData
from steering_core.foundation.errors import SpecError, VectorNotFound
from steering_core.interventions.expression import Amount
from steering_core.pipeline.discover import run
from steering_core.scores.measure import measure_items, measure_texts
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import cell_values, summarise
from steering_core.spec import GenerationsSpec, Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store
from steering_core.vectors.controls import turned
from steering_core.vectors.keyed import by_key
from steering_core.vectors.vector import Vector, cosine
from tests.capitals import vectors
from tests.toy import ALL_TRAIN, CONCEPT, NEUTRAL

KEYS = [f"{i:020x}" for i in range(10)]


def single(setup: Setup, vector: Vector, dose: float) -> Cell:
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "generation")
    return Cell.adding(*of, [vector], [vector.alpha(dose)])


def best_first(setup: Setup) -> list[Cell]:
    mine = [v for v in vectors(setup) if v.control is None]
    return [single(setup, v, 0.03) for v in sorted(mine, key=lambda v: (-v.layer, v.method != "planted"))]


def test_a_combination_shares_out_the_dose_of_a_single_vector(setup: Setup) -> None:
    layers, blend = combined(best_first(setup), [0.06])
    assert layers.layers == [0, 1, 2]
    assert [
        v.dose(c.amount) for v, c in zip(layers.vectors, layers.intervention.changes, strict=True)
    ] == pytest.approx([0.02] * 3, rel=1e-5)
    assert layers.dose == pytest.approx(0.06, rel=1e-5)
    total = sum(change.amount * change.direction for change in blend.intervention.changes)
    assert blend.layers == [2]
    assert np.linalg.norm(total) / 12.0 == pytest.approx(blend.dose) == pytest.approx(0.06, rel=1e-5)
    assert layers.columns()["layer"] is None
    assert layers.columns()["alpha"] is None
    assert blend.columns()["method"] == "planted+bent"
    assert blend.columns()["layer"] == 2


@pytest.mark.parametrize("dose", [0.1, 0.15, 0.3, 0.7, -0.3])
def test_a_dose_is_told_as_it_was_asked_for(setup: Setup, dose: float) -> None:
    """SQL that asks for dose = 0.3 finds it: it is computed back from alpha and norms."""
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "generation")
    cells = [Cell.adding_amounts(*of, [vector], [Amount.of_dose(dose)]) for vector in vectors(setup)]
    assert {cell.columns()["dose"] for cell in cells} == {dose}
    assert {mirrored(cell)[0].dose for cell in cells} == {-dose}


def test_a_combination_keeps_the_sign_of_the_cells_it_is_made_of(setup: Setup) -> None:
    away = [mirrored(cell)[0] for cell in best_first(setup)]
    for cell, positive in zip(combined(away, [0.06]), combined(best_first(setup), [0.06]), strict=True):
        assert cell.sign == -1
        assert cell.dose == pytest.approx(-0.06, rel=1e-5)
        assert [c.amount for c in cell.intervention.changes] == [-c.amount for c in positive.intervention.changes]


def test_a_direction_keeps_its_shares_at_every_dose(setup: Setup) -> None:
    (layers, _), (stronger, _) = combined(best_first(setup), [0.06]), combined(best_first(setup), [0.1])
    assert layers.direction == stronger.direction
    assert layers.at(0.1).dose == pytest.approx(0.1, rel=1e-5)
    (opposite,) = mirrored(layers)
    assert opposite.dose == pytest.approx(-0.06, rel=1e-5)
    assert [c.amount for c in opposite.intervention.changes] == [-c.amount for c in layers.intervention.changes]


def test_the_controls_of_several_vectors_are_turned_together(setup: Setup) -> None:
    for cell in combined(best_first(setup), [0.06]):
        controls = chance_controls(cell, vectors(setup), 2)
        assert [control.control for control in controls] == [RANDOM, RANDOM]
        for control in controls:
            assert control.is_control_of(cell)
            assert control.layers == cell.layers
            assert control.dose == pytest.approx(cell.dose, rel=1e-5)
            assert cosine(*control.vectors[:2]) == pytest.approx(cosine(*cell.vectors[:2]), abs=1e-5)
            assert [v.norm for v in control.vectors] == pytest.approx([v.norm for v in cell.vectors], rel=1e-5)
            assert max(abs(cosine(a, b)) for a, b in zip(cell.vectors, control.vectors, strict=True)) < 0.7


def test_one_vector_of_the_grid_meets_its_own_random_directions(setup: Setup) -> None:
    cell = best_first(setup)[0]
    found = chance_controls(cell, vectors(setup), 2)
    assert [control.vector.control for control in found if control.vector] == [RANDOM, RANDOM]
    assert {c.vector.vector_id for c in found if c.vector} <= {v.vector_id for v in vectors(setup)}


def test_an_operation_has_controls_and_no_mirror_image(setup: Setup) -> None:
    known = {v.vector_id: v for v in vectors(setup)}
    key = best_first(setup)[0].vectors[0].vector_id
    steering, found = by_key(f"!{key} @all; clamp({key}, 20%) @first(3)", known.__getitem__, 3)
    cell = Cell(setup.model.identity.model_id, CONCEPT.concept_id, steering, found)
    assert cell.dose is None
    assert mirrored(cell) == []
    (control, _) = chance_controls(cell, vectors(setup), 2)
    assert [c.operation for c in control.intervention.changes] == ["ablate", "clamp"]
    assert cell.columns()["vector_id"] is None
    assert cell.columns()["vector_ids"] == [key]


def test_combinations_enter_the_search_and_bring_their_controls(setup: Setup, store: Store) -> None:
    grid = [unsteered(setup.model.identity, CONCEPT), *(c.at(d) for c in best_first(setup) for d in (0.02, 0.03))]
    ground = SearchData(CONCEPT.items, NEUTRAL, (), ("propensity", "kl"), Bounds(9.0, 9.0), 2)
    found = Search(setup, store, ground).halving(grid, vectors(setup), 4)
    several = [cell for cell in found.tried if len(cell.vectors) > 1]
    assert {tuple(cell.layers) for cell in several} == {(0, 1, 2), (2,)}
    assert {round(abs(cell.dose or 0), 6) for cell in several} <= {0.02, 0.03}
    kept = next(cell for cell in found.cells if len(cell.vectors) > 1)
    beside = [control for control in found.controls if control.is_control_of(kept)]
    assert len(beside) == 2
    stored = {row["vector_id"] for row in store.rows("SELECT vector_id FROM raw.vectors")}
    assert {v.vector_id for control in beside for v in control.vectors} <= stored


def spec_of(setup: Setup, folder: Path, **generations: object) -> Spec:
    path = folder / "capitals.yaml"
    path.write_text(yaml.safe_dump(ALL_TRAIN.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": (0, 1), "doses": (0.02,), "prompts": 1, "max_tokens": 4, "shortlist": 3, **generations}
    scores = {"bootstrap": 200, "max_perplexity_ratio": 9.0, "metrics": ("propensity", "perplexity")}
    return Spec(models=(setup.model.name,), concepts=(str(path),), generations=grid, scores=scores)


def test_an_expression_is_a_candidate_and_what_is_printed_steers_the_same(setup: Setup, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    said = "6%*capitals/mean_difference/1 + 6%*capitals/0 @all"
    (row,) = run(spec_of(setup, tmp_path, expressions=(said,)), store)["recommendations"]
    assert row["layers"] == [0, 1]
    assert row["layer"] is None
    assert row["verdict"] == "works", row["reason"]
    assert row["dose"] == pytest.approx(0.12)
    assert row["phase"] == "all"
    named, printed = (api.intervention(setup.model, text, store=store.root) for text in (said, row["intervention"]))
    for a, b in zip(named.changes, printed.changes, strict=True):
        assert (a.layer, a.amount, a.where) == (b.layer, b.amount, b.where)
        assert (a.direction == b.direction).all()
    board = store.rows("SELECT * FROM leaderboard WHERE split = 'test' AND control = 'random'")
    assert {tuple(one["layers"]) for one in board} == {(0, 1)}
    assert [one["dose"] for one in board] == pytest.approx([0.12] * 3)


def test_an_expression_that_names_nothing_is_refused_with_a_caret(setup: Setup, store: Store, tmp_path: Path) -> None:
    with pytest.raises(VectorNotFound, match=r"0\.3\*capitols\n +\^"):
        run(spec_of(setup, tmp_path, expressions=("0.3*capitols",)), store)


def test_a_bad_expression_is_refused_when_the_spec_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text('models: [m]\nconcepts: [c]\ngenerations: {expressions: ["0.6*a", "0.6*a +* b", "a @now"]}\n')
    with pytest.raises(SpecError) as raised:
        load_spec(path)
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("2 faults:")
    assert lines[1].startswith("  generations.expressions, entry 2: the intervention cannot be read")
    assert lines[3].index("^") == lines[2].index("* b")


# -- what cannot be measured, and what is known from few texts --------------------------------------------------------


def test_what_the_unsteered_model_lacks_is_counted_and_bars_no_candidate(setup: Setup, store: Store) -> None:
    base, chosen = unsteered(setup.model.identity, CONCEPT), best_first(setup)[0]
    cells = [base, chosen, *mirrored(chosen)]
    did = measure_items(setup, store, cells, CONCEPT.items[:9], "test", ["propensity"])
    whole = summarise(store, cells, did.ids, "test")[chosen.intervention_id]
    rows = store.recall("measurements", did.ids)
    own = [i for i, row in rows.items() if row["intervention_id"] == base.intervention_id]
    for n in (1, 9):
        broken = {i: row | ({"value": float("nan")} if i in own[:n] else {}) for i, row in rows.items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "recall", lambda _, table, ids, told=broken: told if table == "measurements" else {})
            found = summarise(store, cells, did.ids, "test")[chosen.intervention_id]
            values = cell_values(store, cells, did.ids)[1]
        assert (found["effect"]["n"], found["effect"]["n_missing"]) == (9 - n, n)
        assert (found["effect"]["value"] is None) == (n == 9)
        assert (found["propensity"]["n_missing"], found["odd_effect"]["n_missing"]) == (0, 0)
        assert found["odd_effect"]["value"] == pytest.approx(whole["odd_effect"]["value"])
        evidence = Evidence(Choice(Trial(chosen, cells)), {chosen.intervention_id: found}, None, Forms(), Bounds(9, 9))
        assert evidence.missing == 0
        (rating,) = rated([chosen], [values], Bounds(9.0, 9.0), {}, adjust=False)
        assert rating.excess < np.inf


def test_items_that_diverge_are_counted_and_bar_a_candidate(setup: Setup, store: Store) -> None:
    cells = [unsteered(setup.model.identity, CONCEPT), best_first(setup)[0], best_first(setup)[0].at(1e30)]
    items = [*CONCEPT.items[:8], Item(prompt="9?", matching="YES", not_matching="no")]
    did = measure_items(setup, store, cells, items, "test", ["propensity"])
    scores = summarise(store, cells, did.ids, "test")
    broken = scores[cells[2].intervention_id]["effect"]
    assert (broken["n"], broken["n_missing"], broken["value"]) == (0, 9, None)
    assert scores[cells[1].intervention_id]["effect"]["n_missing"] == 0
    values = cell_values(store, cells, did.ids)[1:]
    ratings = rated(cells[1:], values, Bounds(9.0, 9.0), {}, adjust=False)
    assert [one.excess == np.inf for one in ratings] == [False, True]
    assert choose(ratings)[0].cell is cells[1]
    evidence = Evidence(Choice(Trial(cells[2], cells)), scores, None, Forms(), Bounds(9.0, 9.0))
    row = recommend(store, evidence, "spec")
    assert (row["verdict"], row["n_missing"]) == ("too few to tell", 9)
    store.append("models", [dataclasses.asdict(setup.model.identity)])
    (shown,) = store.rows("SELECT n, n_missing, effect FROM leaderboard WHERE n_missing > 0")
    assert shown == {"n": 0, "n_missing": 9, "effect": None}


def test_texts_that_answer_one_prompt_are_one_subject(setup: Setup, store: Store) -> None:
    cells = [unsteered(setup.model.identity, CONCEPT), best_first(setup)[0]]
    cells += chance_controls(cells[1], vectors(setup), 2)
    spec = GenerationsSpec(prompts=3, samples=4, max_tokens=6, seed=7)
    texts = generate(setup.model, store, CONCEPT, cells, spec, "test").ids
    assert len(texts) == 3 * (4 + 4)  # what shows chance has no texts
    did = measure_texts(setup, store, texts, "test", ["perplexity"])
    score = summarise(store, cells, did.ids, "test")[cells[1].intervention_id]["perplexity_ratio"]
    (by_hand,) = store.rows(
        """
        WITH prompts AS (
            SELECT prompt, avg(ln(value)) FILTER (g.control IS NULL) - avg(ln(value)) FILTER (g.control = 'none') AS r
            FROM raw.measurements m JOIN raw.generations g ON generation_id = subject_id GROUP BY prompt
        )
        SELECT exp(avg(r)), exp(avg(r) + 4.302653 * stddev_samp(r) / sqrt(3)), count(*) FROM prompts
        """
    )
    assert (score["value"], score["ci_high"], score["n"]) == pytest.approx(tuple(by_hand.values()), rel=1e-5)
    earlier = generate(setup.model, store, CONCEPT, cells, spec.model_copy(update={"samples": 1}), "test")
    assert (earlier.work.computed, earlier.work.reused) == (0, 6)
    assert len(spec.model_copy(update={"temperature": 0.0}).seeds) == 1  # all would be the same


def test_directions_are_turned_to_every_side_alike() -> None:
    one = np.eye(8)[:2]  # two unit vectors at a right angle
    drawn = np.array([turned(one, seed) for seed in range(400)])  # (400, 2, 8)
    np.testing.assert_allclose(drawn @ drawn.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (400, 2, 2)), atol=1e-12)
    assert np.abs(drawn.mean(axis=0)).max() < 4 / np.sqrt(8 * 400)  # four standard errors of a coordinate's mean
    assert np.abs((drawn > 0).mean(axis=0) - 0.5).max() < 4 * 0.5 / np.sqrt(400)
