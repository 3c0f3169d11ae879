"""Vectors of the library in a spec's grid: proven alone, beside methods or without any, against turned directions."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.tasks import in_the_log
from steering_core.candidates.cell import unsteered
from steering_core.concepts import Concept
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.search import Search, SearchData
from steering_core.foundation.errors import SpecError, VectorError, VectorNotFound
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.doses import dose_rows
from steering_core.pipeline.measuring import calibration_rows, layer_sweep_rows, measured_rows
from steering_core.pipeline.stages import registered
from steering_core.pipeline.wanted import candidate_cells, library_vectors
from steering_core.reports.charts.explorer import dose_response, layer_by_dose
from steering_core.reports.charts.render import svg
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers, verdict_in_words
from steering_core.runs import Run
from steering_core.scores.metrics import Setup
from steering_core.spec import ScoresSpec, Spec, VectorsSpec
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors.library import named
from steering_core.vectors.saving import save
from steering_core.vectors.vector import Vector
from tests import toy


def toy_spec(folder: Path, concept: Path, vectors: Mapping[str, Any], **generations: Any) -> Spec:
    grid = {"layers": (1, 2), "doses": (0.02, 0.04), "prompts": 1, "max_tokens": 2, "shortlist": 2, **generations}
    scores = {"bootstrap": 200, "metrics": ("propensity",), "draws": 19, "side_effects": "none"}
    return Spec(models=(str(folder),), concepts=(str(concept),), vectors=vectors, generations=grid, scores=scores)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The toy's concept as a file."""
    path = tmp_path / "capitals.yaml"
    path.write_text(yaml.safe_dump(toy.CONCEPT.model_dump(mode="json", exclude_none=True)))
    return path


@pytest.fixture
def own(toy_model: Model, store: Store) -> Vector:
    """The direction that the toy reads as its concept, saved as `mine` at its last layer."""
    return saved(toy_model, store, "mine", toy.axes()[1])


def saved(model: Model, store: Store, name: str, direction: np.ndarray) -> Vector:
    vector = Vector.from_numpy(model, direction.astype(np.float32), layer=2, name=name)
    registered(store, model)
    save(store, [vector], name)
    return vector


def test_a_vector_of_ones_own_gets_a_verdict_without_any_method(
    toy_folder: Path,
    toy_model: Model,
    written: Path,
    own: Vector,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = toy_spec(toy_folder, written, {"methods": (), "library": ("mine",)})
    (row,) = run(spec, store)["recommendations"]
    assert row["vector_ids"] == [own.vector_id]
    assert row["verdict"] == "works", row["reason"]
    assert "searches among directions without meaning" in row["reason"]
    assert len(row["null_effects"]) == 39
    assert plain_verdict(row).startswith("capitals works by mine at layer 2 ")
    (raw,) = store.rows("FROM raw.recommendations")  # as the stage of a flow returns it
    monkeypatch.setattr("flows.tasks.get_run_logger", lambda: logging.getLogger("flow run"))
    caplog.set_level(logging.INFO, "flow run")
    in_the_log(lambda run, model, concept: raw)(Run(spec, store), toy_model, toy.CONCEPT)
    assert caplog.messages == [verdict_in_words(row).plain]
    assert f"odd effect is {row['odd_effect']:+.3f} nats [{row['odd_effect_low']:.3f}, " in verdict_in_numbers(row)
    board = store.rows(named_query("leaderboard_of_concept"), [row["model_id"], row["concept_id"]])
    assert {line["method"] for line in board if line["control"] in ("", "mirrored")} == {"mine"}
    beside = store.rows("SELECT control FROM leaderboard WHERE split = 'test' AND control = 'random'")
    assert len(beside) == spec.vectors.controls
    (again,) = run(spec, store)["recommendations"]  # what was recommended does not narrow what a name means
    assert again["recommendation_id"] == row["recommendation_id"]
    (meant,) = named(store, "capitals")  # a concept without vectors of its own
    assert (meant.vector_id, meant.recommended) == (own.vector_id, pytest.approx(row["alpha"], rel=1e-3))


def test_a_random_vector_of_ones_own_is_no_better_than_random(
    toy_folder: Path, toy_model: Model, written: Path, store: Store
) -> None:
    away = np.random.default_rng(1).standard_normal(toy.WIDTH)
    saved(toy_model, store, "noise", away - (away @ toy.axes()[1]) * toy.axes()[1])
    (row,) = run(toy_spec(toy_folder, written, {"methods": (), "library": ("noise",)}), store)["recommendations"]
    assert row["verdict"] == "no better than random", row["reason"]


def test_it_competes_with_methods_and_is_no_part_of_a_combination(
    toy_folder: Path, written: Path, own: Vector, store: Store
) -> None:
    run(toy_spec(toy_folder, written, {"library": ("mine",)}), store)
    rows = store.rows("SELECT DISTINCT vector_ids FROM leaderboard WHERE control IS NULL AND split = 'validation'")
    sets = [row["vector_ids"] for row in rows]
    assert [own.vector_id] in sets
    assert any(len(ids) == 1 and own.vector_id not in ids for ids in sets)
    assert all(len(ids) == 1 for ids in sets if own.vector_id in ids)


def test_two_vectors_of_a_layer_have_a_line_each_in_the_dose_response(
    toy_folder: Path, toy_model: Model, written: Path, own: Vector, store: Store
) -> None:
    other = saved(toy_model, store, "other", sum(toy.axes()))
    (row,) = run(toy_spec(toy_folder, written, {"methods": (), "library": ("mine", "other")}), store)["recommendations"]
    rows = store.rows(named_query("dose_response_of_concept"), [row["model_id"], row["concept_id"]])
    drawn = dose_response(rows).to_dict()
    (data,) = (
        found for found in drawn["datasets"].values() if any(one.get("recommended") for one in found if len(found) > 2)
    )
    lines = [(one["vector_id"], one["dose"]) for one in data]
    assert {vector_id for vector_id, _ in lines} == {own.vector_id, other.vector_id}
    assert len(lines) == len(set(lines))
    assert [dose for _, dose in lines].count(0.0) == 2
    assert {one["line"] for one in data} == {"2 mine", "2 other"}
    assert all(f">{name}</text>" in svg(dose_response(rows)) for name in ("2 mine", "2 other"))


def test_the_charts_of_a_run_leave_out_a_vector_that_was_swept_alone(
    toy_folder: Path, toy_model: Model, written: Path, own: Vector, store: Store
) -> None:
    (row,) = run(toy_spec(toy_folder, written, {"library": ("mine",)}), store)["recommendations"]
    ids = [row["model_id"], row["concept_id"]]
    controls = {
        r["vector_id"] for r in store.rows(named_query("dose_response_of_concept"), ids) if r["kind"] == "random"
    }
    assert controls
    loud = Vector.from_numpy(toy_model, np.ones(toy.WIDTH, np.float32), layer=2)
    for vector in (own, loud):
        dose_rows(store, toy_model, toy.CONCEPT, vector, [0.07], "validation", 1, ScoresSpec(neutral=2))
    rows = store.rows(named_query("dose_response_of_concept"), ids)
    assert [one["vector_id"] for one in rows if round(one["dose"], 3) == 0.07] == [own.vector_id]
    assert loud.vector_id not in {one["vector_id"] for one in rows}
    assert controls <= {one["vector_id"] for one in rows}
    assert {one["method"] for one in rows if one["vector_id"] == own.vector_id} == {"mine"}
    tiles = store.rows(named_query("layer_by_dose"), ids)
    assert loud.vector_id not in {one["vector_id"] for one in tiles}
    (data,) = layer_by_dose(tiles).to_dict()["datasets"].values()
    assert {one["column"] for one in data} == {"1", "2", "2 mine"}
    profile = store.rows(named_query("layer_profile"), [9.0, 9.0, *ids])
    assert {one["method"] for one in profile} == {"mean_difference", "mine"}


def test_an_expression_stays_as_strong_as_it_is_written_and_joins_no_combination(
    toy_model: Model, own: Vector, store: Store
) -> None:
    grid = candidate_cells(
        toy_spec(Path("toy"), Path("agree"), {"methods": ()}, expressions=("3%*mine",)),
        store, toy_model, toy.CONCEPT, [], [],
    )  # fmt: skip
    assert [cell.dose for cell in grid[1:]] == [pytest.approx(0.03)]
    bounds = Bounds(9.0, 9.0)
    on = SearchData(toy.CONCEPT.items, ["a", "b"], (), ("propensity", "kl"), bounds, 1)
    found = Search(Setup(toy_model, toy.CONCEPT), store, on).halving(grid, [], 2)
    assert [cell.intervention_id for cell in found.cells[1:]] == [grid[1].intervention_id]
    assert unsteered(toy_model.identity, toy.CONCEPT).key == found.cells[0].key


def test_calibrating_and_sweeping_layers_know_it(toy_folder: Path, written: Path, own: Vector, store: Store) -> None:
    spec = toy_spec(toy_folder, written, {"methods": (), "library": ("mine",)})
    scores = spec.scores.model_copy(update={"metrics": ("propensity", "kl", "damage"), "answers": 2, "neutral": 2})
    spec = spec.model_copy(update={"scores": scores})
    with Run(spec, store) as this:
        calibrated = measured_rows(this, lambda *cell: calibration_rows(*cell, texts=False))
        swept = measured_rows(this, lambda *cell: layer_sweep_rows(*cell, damage=0.05))
    assert [(row["method"], row["layer"]) for row in calibrated] == [("given", 2)]
    assert [(row["method"], row["layer"]) for row in swept] == [("given", 2)]
    assert [row["name"] for row in [*calibrated, *swept]] == ["mine", "mine"]
    assert swept[0]["over_controls"] is not None


def test_a_vector_that_the_run_derives_as_well_is_one_candidate(
    toy_folder: Path, toy_model: Model, written: Path, store: Store
) -> None:
    written.write_text(yaml.safe_dump(toy.ALL_TRAIN.model_dump(mode="json", exclude_none=True)))
    spec = toy_spec(toy_folder, written, {"library": ("capitals/mean_difference/2",)}, layers=(2,))
    run(toy_spec(toy_folder, written, {}, layers=(2,)), store)
    derived = named(store, "capitals/mean_difference/2", toy_model.identity)
    assert library_vectors(spec, store, toy_model, derived) == []
    (row,) = run(spec, store)["recommendations"]
    assert row["vector_ids"] == [derived[0].vector_id]
    assert "among permuted labels" in row["reason"]


def test_names_that_there_are_not_are_told_before_anything_is_computed(
    toy_folder: Path, toy_model: Model, written: Path, own: Vector, store: Store
) -> None:
    missing = toy_spec(toy_folder, written, {"methods": (), "library": ("mien",)})
    with pytest.raises(VectorNotFound, match="mien"):
        run(missing, store)
    assert store.rows("SELECT * FROM raw.activations") == []
    run(toy_spec(toy_folder, written, {}), store)
    control = store.rows("SELECT vector_id FROM raw.vectors WHERE control = 'random'")[0]["vector_id"]
    with pytest.raises(VectorError, match=r"is a control \(random\)"):
        library_vectors(toy_spec(toy_folder, written, {"library": (control,)}), store, toy_model)
    assert [v.vector_id for v in named(store, "mine", toy_model.identity)] == [own.vector_id]


def test_a_grid_of_nothing_is_refused(written: Path) -> None:
    with pytest.raises((SpecError, ValueError), match=r"methods is empty.*vectors\.library"):
        toy_spec(Path("toy"), written, {"methods": ()})


def test_specs_without_a_library_keep_their_key(concept: Concept) -> None:
    plain = Spec(models=("m",), concepts=(concept.name,))
    assert "library" not in plain.model_dump(exclude_defaults=True)["models"]
    assert repr(plain.model_copy(update={"vectors": VectorsSpec(methods=(), library=("a",))})).endswith("library a>")
    assert plain.key == Spec(models=("m",), concepts=(concept.name,), vectors={"library": ()}).key
    assert plain.key != Spec(models=("m",), concepts=(concept.name,), vectors={"library": ("a",)}).key
