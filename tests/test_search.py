"""The search finds what the whole grid finds, with less work; controls, verdicts and numbers are what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steering_core.candidates.cell import NONE, Cell, mirrored, unsteered
from steering_core.candidates.chance_controls import chance_controls
from steering_core.candidates.grid import Strengths, candidates
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.search import Search, SearchData
from steering_core.interventions.expression import Amount
from steering_core.pipeline.discover import run
from steering_core.scores import summary
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import summarise
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy
from tests.nonsense import save_nonsense
from tests.toy import CONCEPT, NEUTRAL

DOSES = (0.01, 0.02, 0.03, 0.04)
LENIENT = SearchData(CONCEPT.items, NEUTRAL, (), ("propensity", "kl"), Bounds(9.0, 9.0), 2)


def vectors(setup: Setup) -> list[Vector]:
    """At each layer the planted direction, as strong as the layer is high, and two random ones beside it."""
    u, v = toy.axes()
    noise = np.random.default_rng(3).standard_normal((2, toy.WIDTH))
    found = []
    for layer in range(3):
        mixed = (layer + 1) / 3 * v + np.sqrt(1 - ((layer + 1) / 3) ** 2) * u
        for i, (control, direction) in enumerate([(None, mixed), ("random", noise[0]), ("random", noise[1])]):
            of = (setup.model.identity.model_id, CONCEPT.concept_id, "planted", layer, 10.0)
            unit = np.float32(direction / np.linalg.norm(direction))
            found.append(Vector(f"{layer}-{i}", *of, control=control, direction=unit))
    return found


def grid(setup: Setup) -> list[Cell]:
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "generation")
    planted = [v for v in vectors(setup) if v.control is None]
    cells = [Cell.adding(*of, [v], [v.alpha(dose)]) for v in planted for dose in DOSES]
    return [unsteered(setup.model.identity, CONCEPT), *cells]


def test_halving_finds_the_whole_grids_best_direction_with_fewer_measurements(setup: Setup, tmp_path: Path) -> None:
    halved = Search(setup, Store(tmp_path / "a"), LENIENT).halving(grid(setup), vectors(setup), 2)
    whole = Search(setup, Store(tmp_path / "b"), LENIENT).whole_grid(grid(setup), vectors(setup))
    best = next(cell for cell in halved.cells[1:] if cell.vector)
    assert best.vector
    assert best.vector.layer == 2  # the grid's best
    assert halved.measured.work.computed < whole.measured.work.computed
    assert halved.cells[0].control == NONE


@pytest.mark.parametrize(
    ("doses", "sign", "first"),
    [
        ((-0.04, -0.02, 0.02), 1, 0.02),
        ((-0.04, -0.03, -0.02, 0.01, 0.02), 1, 0.02),
        ((0.02, -0.02), 1, 0.02),
        ((-0.04, -0.02, -0.01), -1, -0.02),
        ((0.01, 0.02, 0.04), 1, 0.02),
    ],
)
def test_more_of_the_concept_is_searched_where_any_strength_is_positive(
    setup: Setup, store: Store, doses: tuple[float, ...], sign: int, first: float
) -> None:
    of = (setup.model.identity, CONCEPT, [v for v in vectors(setup) if v.control is None])
    cells = candidates(*of, Strengths(doses=doses), "generation")
    found = Search(setup, store, LENIENT).halving([unsteered(setup.model.identity, CONCEPT), *cells], [], 2)
    assert {cell.sign for cell in found.cells[1:]} == {sign}
    assert {cell.dose for cell in found.cells[1:] if cell.vector} == {first}
    assert set(doses) <= {cell.dose for cell in found.tried}  # those of the other sign are its dose response


def test_every_shortlisted_candidate_has_its_controls_beside_it(setup: Setup, store: Store) -> None:
    found = Search(setup, store, LENIENT).halving(grid(setup), vectors(setup), 2)
    for cell in found.cells[1:]:
        beside = [control for control in found.controls if control.is_control_of(cell)]
        assert [control.control for control in beside] == ["random", "random"]
        assert all(control.dose == pytest.approx(cell.dose) for control in beside)


def test_cells_beyond_the_damage_bound_drop_out(setup: Setup, store: Store) -> None:
    strict = SearchData(CONCEPT.items, NEUTRAL, (), ("propensity", "kl"), Bounds(9.0, 0.02), 2)
    found = Search(setup, store, strict).halving(grid(setup), vectors(setup), 2)
    scores = summarise(store, found.everything, found.measured.ids, "validation")
    assert all(scores[cell.intervention_id]["kl"]["value"] <= 0.02 for cell in found.cells[1:])


def test_doses_stay_where_no_answer_has_a_token_to_measure_damage_on(setup: Setup, store: Store) -> None:
    ground = replace(LENIENT, metrics=("propensity", "damage"))
    search = Search(setup, store, ground)
    assert search.at_allowed(grid(setup)) == grid(setup)
    found = search.halving(grid(setup), vectors(setup), 2)
    assert {cell.dose for cell in found.cells[1:] if cell.vector} == {0.03}
    assert found.curves == {}


def test_over_controls_is_the_paired_difference_with_the_best_one(setup: Setup, store: Store) -> None:
    found = Search(setup, store, LENIENT).whole_grid(grid(setup), vectors(setup))
    scores = summarise(store, found.everything, found.measured.ids, "validation")
    chosen = max((cell for cell in found.cells[1:]), key=lambda c: scores[c.intervention_id]["effect"]["value"])
    rivals = [scores[c.intervention_id]["effect"]["value"] for c in chance_controls(chosen, vectors(setup), 2)]
    mine = scores[chosen.intervention_id]
    assert mine["over_controls"]["value"] == pytest.approx(mine["effect"]["value"] - max(rivals))
    assert mine["over_controls"]["p_value"] < 1e-6
    assert mine["odd_effect"]["value"] == pytest.approx(
        (mine["effect"]["value"] - scores[mirrored(chosen)[0].intervention_id]["effect"]["value"]) / 2
    )


def test_a_candidate_that_is_anothers_mirror_image_keeps_its_own_scores(setup: Setup, store: Store) -> None:
    """In a grid of 5 % and -5 % the mirror image of either does what the other candidate does."""
    of = (setup.model.identity.model_id, CONCEPT.concept_id, "generation", vectors(setup)[:1])
    cells = [Cell.adding_amounts(*of, [Amount.of_dose(dose)]) for dose in (-0.05, 0.05)]
    assert mirrored(cells[0])[0].intervention_id == cells[1].intervention_id
    alone = replace(LENIENT, controls=0)
    found = Search(setup, store, alone).whole_grid([unsteered(setup.model.identity, CONCEPT), *cells], [])
    scores = summarise(store, found.everything, found.measured.ids, "validation")
    assert [scores[cell.intervention_id]["effect"]["control"] for cell in cells] == [None, None]
    rows = store.rows("SELECT control, round(dose, 3) AS dose FROM raw.scores WHERE metric = 'effect'")
    kept = sorted((row["control"] or "candidate", row["dose"]) for row in rows if row["dose"])
    assert kept == [("candidate", -0.05), ("candidate", 0.05), ("mirrored", -0.05), ("mirrored", 0.05)]


def test_a_scores_key_holds_no_measured_number(setup: Setup, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines that differ in a value's last digit name the score alike, and store it once."""
    found = Search(setup, store, LENIENT).whole_grid(grid(setup)[:3], vectors(setup))
    first = summarise(store, found.everything, found.measured.ids, "validation")
    scaled = summary._scaled
    monkeypatch.setattr(summary, "_scaled", lambda row: scaled(row) * (1 + 1e-12))
    again = summarise(store, found.everything, found.measured.ids, "validation")
    ids = [{(i, m): row["score_id"] for i, of in scores.items() for m, row in of.items()} for scores in (first, again)]
    assert ids[0] == ids[1]


def test_the_same_seed_gives_the_same_numbers(tiny_folder: Path, tmp_path: Path) -> None:
    spec = nonsense_spec(tiny_folder, save_nonsense(tmp_path, 0, flip_items=True))
    boards = []
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        run(spec, store)
        boards.append(store.rows("SELECT * FROM raw.scores ORDER BY score_id"))
    assert boards[0] == boards[1]


def nonsense_spec(model: Path, concept: Path) -> Spec:
    return Spec(
        models=(str(model),),
        concepts=(str(concept),),
        generations={"layers": (1, 2), "doses": (0.3,), "prompts": 1, "max_tokens": 2, "shortlist": 2},
        scores={"bootstrap": 200, "metrics": ("propensity",)},
    )


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_is_no_better_than_random(tiny_folder: Path, store: Store, tmp_path: Path, seed: int) -> None:
    """A few of the hundred seeds of `benchmarks/evaluation.py --nonsense 100`."""
    path = save_nonsense(tmp_path, seed, flip_items=False)
    (row,) = run(nonsense_spec(tiny_folder, path), store)["recommendations"]
    assert row["verdict"] == "no better than random", row["reason"]
