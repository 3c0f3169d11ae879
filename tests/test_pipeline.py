"""The whole pipeline on a tiny model: what it stores, what it reuses, what it says."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from steering_core.concepts import Concept
from steering_core.foundation.errors import ConceptError, ModelNotFound, RunIncomplete
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.discover import run
from steering_core.pipeline.measuring import layer_sweep_rows, measured_rows
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store, connect
from steering_core.store.store import IN_USE
from tests import quick


@pytest.fixture
def spec(tiny_folder: Path, concept: Concept, tmp_path: Path) -> Spec:
    return spec_in(tmp_path, tiny_folder, concept)


def spec_in(folder: Path, tiny_folder: Path, concept: Concept) -> Spec:
    path = folder / "loud.yaml"
    path.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    return Spec(
        name="test",
        models=(str(tiny_folder),),
        concepts=(str(path),),
        generations={"layers": (1, 2), "doses": (0.5, 1.0), "prompts": 2, "max_tokens": 4},
        **quick.SPEC,
    )


Ran = tuple[Spec, Store, dict[str, Any]]


@pytest.fixture(scope="module")
def ran(tiny_folder: Path, concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The spec, a store in which it ran, and what that run reported, for tests that only look."""
    folder = tmp_path_factory.mktemp("ran")
    spec, store = spec_in(folder, tiny_folder, concept), Store(folder / "store")
    return spec, store, run(spec, store)


def counts(report: dict[str, Any], what: str) -> dict[str, int]:
    return {stage: row[what] for stage, row in report["stages"].items()}


def test_the_second_run_computes_nothing_and_says_the_same(ran: Ran) -> None:
    spec, store, first = ran
    second = run(spec, store)
    assert counts(first, "computed")["activations"] == 20
    assert [stage for stage, n in counts(first, "computed").items() if not n] == ["side_effects"]  # there is no other
    assert not any(counts(second, "computed").values())
    assert not any(counts(second, "forward_passes").values())
    assert counts(second, "reused")["activations"] == 20
    assert second["recommendations"] == first["recommendations"]
    assert second["run"] != first["run"]


def test_a_changed_grid_computes_only_its_new_cells(spec: Spec, store: Store) -> None:
    whole = spec.generations.model_copy(update={"shortlist": "all"})
    run(spec.model_copy(update={"generations": whole}), store)
    wider = spec.model_copy(update={"generations": whole.model_copy(update={"doses": (0.5, 1.0, 1.5)})})
    report = run(wider, store)
    assert counts(report, "computed")["activations"] == 0
    assert counts(report, "computed")["vectors"] == 0
    assert counts(report, "computed")["generations"] >= 4  # two layers, two prompts, one more dose
    assert counts(report, "reused")["generations"] >= 8


def test_a_lost_file_is_made_again(spec: Spec, store: Store) -> None:
    first = run(spec, store)
    for path in (store.root / "vectors").glob("*.parquet"):
        if path.stem != "schema":
            path.unlink()
    again = run(spec, store)
    assert counts(again, "computed")["vectors"] > 0
    assert counts(again, "computed")["activations"] == 0
    assert again["recommendations"] == first["recommendations"]


def test_every_view_answers_and_carries_its_columns(ran: Ran) -> None:
    _, store, _ = ran
    columns = {
        "models": {"name", "model_id"},
        "concepts": {"name", "concept_id"},
        "prompts": {"prompt_id", "text", "n_tokens"},
        "activations": {"model", "concept", "pair_id", "side", "split", "prompt_id", "layer", "position", "activation"},
        "vectors": {"model", "concept", "method", "layer", "vector", "norm", "residual_norm"},
        "generations": {"model", "concept", "method", "layer", "alpha", "dose", "control", "prompt", "text", "seed"},
        "scores": {"model", "concept", "split", "metric", "value", "ci_low", "ci_high", "n"},
        "recommendations": {"model", "concept", "method", "layer", "alpha", "dose", "verdict"},
        "runs": {"run_id", "name", "stages"},
        "leaderboard": {"method", "layer", "alpha", "dose", "effect", "perplexity_ratio"},
    }
    with connect(store.root) as connection:
        for view, wanted in columns.items():
            found = connection.sql(f"SELECT * FROM {view}")
            assert wanted <= set(found.columns), view
            assert found.limit(1).fetchall(), view
        (sides,) = connection.sql(
            "SELECT count(*) FROM activations WHERE side = 'positive' AND layer = 0 AND concept = 'loud'"
        ).fetchall()[0]
        assert sides == 10


def test_vectors_in_the_store_are_the_mean_difference_of_its_activations(ran: Ran) -> None:
    _, store, _ = ran
    (row,) = store.rows(
        """
        WITH sides AS (
            SELECT side, unnest(activation) AS value, generate_subscripts(activation, 1) AS place
            FROM activations WHERE layer = 2 AND split = 'train'
        ), found AS (
            SELECT place, avg(value) FILTER (side = 'positive') - avg(value) FILTER (side = 'negative') AS difference
            FROM sides GROUP BY place
        )
        SELECT max(abs(difference - vector[place])) AS error
        FROM found, vectors WHERE layer = 2 AND control IS NULL AND method = 'mean_difference'
        """
    )
    assert row["error"] < 1e-5


@pytest.mark.parametrize(("n", "told"), [(7, True), (8, False)])
def test_a_run_that_can_reach_no_verdict_says_so_before_it_begins(
    spec: Spec, store: Store, n: int, told: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering_core.pipeline.discover.held_out", lambda *_: [None] * n)
    begun: list[str] = []

    def derive_vectors(*_: Any) -> Any:
        begun.extend(record.getMessage() for record in caplog.records)
        raise ConceptError("enough was seen")

    with pytest.raises(ConceptError, match="enough was seen"):
        run(spec, store, stages=dataclasses.replace(PLAIN, derive_vectors=derive_vectors))
    said = "loud: this run cannot reach a verdict. 7 held-out test items; at least 8 are needed: add 1 item to"
    assert any(said in message for message in begun) == told


def test_a_concept_whose_items_are_all_for_the_test_is_refused_before_anything_is_derived(
    tiny_folder: Path, concept: Concept, store: Store, tmp_path: Path
) -> None:
    items = tuple(item.model_copy(update={"split": "test"}) for item in concept.items)
    spec = spec_in(tmp_path, tiny_folder, concept.model_copy(update={"items": items}))

    def derive_vectors(*_: Any) -> Any:
        raise AssertionError("vectors were derived")

    said = rf"loud has no held-out items in the validation split \({len(items)} items are in the test split\), and a"
    with pytest.raises(ConceptError, match=said):
        run(spec, store, stages=dataclasses.replace(PLAIN, derive_vectors=derive_vectors))
    bare = spec_in(tmp_path, tiny_folder, concept.model_copy(update={"items": ()}))
    with Run(bare, store) as this:
        measured_rows(this, lambda *cell: layer_sweep_rows(*cell, damage=0.05))
        with pytest.raises(ConceptError, match="loud has no held-out items in the validation split, and a vector"):
            this.raise_failures(this.finish())


def test_a_concept_without_items_has_vectors_and_texts_and_no_verdict(
    tiny_folder: Path, concept: Concept, store: Store, tmp_path: Path
) -> None:
    report = run(spec_in(tmp_path, tiny_folder, concept.model_copy(update={"items": ()})), store)
    assert [row["verdict"] for row in report["recommendations"]] == ["too few to tell"]
    assert store.rows("SELECT count(*) AS n FROM raw.generations WHERE intervention_id IS NOT NULL")[0]["n"] > 0


def test_the_report_is_plain_json(ran: Ran) -> None:
    report = json.loads(json.dumps(ran[2], default=str))
    assert set(report) == {"run", "stages", "recommendations"}
    assert set(report["stages"]) == {"activations", "vectors", "generations", "scores", "side_effects"}
    for row in report["stages"].values():
        assert {"computed", "reused", "forward_passes", "tokens", "seconds"} <= set(row)
    (recommendation,) = report["recommendations"]
    assert recommendation["concept"] == "loud"
    assert recommendation["verdict"] in ("works", "weak", "no better than random", "too few to tell")


@pytest.fixture
def two(spec: Spec, concept: Concept, tmp_path: Path) -> Spec:
    """The spec with a second concept, whose two sides are the same: no method finds a direction in it."""
    same = concept.model_copy(update={"name": "same", "pairs": tuple(_same(pair) for pair in concept.pairs)})
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(same.model_dump(mode="json", exclude_none=True)))
    scores = spec.scores.model_copy(update={"side_effects": "none"})  # which a mended neighbour changes
    return spec.model_copy(update={"concepts": (str(tmp_path / "same.yaml"), *spec.concepts), "scores": scores})


def _same(pair: Any) -> Any:
    return pair.model_copy(update={"negative": pair.positive})


def outcomes(store: Store) -> dict[str, str]:
    rows = store.rows("SELECT concept, outcome FROM raw.outcomes ORDER BY finished_at")
    return {row["concept"]: row["outcome"] for row in rows}


def test_a_cell_that_fails_does_not_sink_the_others(two: Spec, store: Store, concept: Concept) -> None:
    with pytest.raises(RunIncomplete, match="1 of 2 cells failed") as raised:
        run(two, store)
    assert [r["concept"] for r in raised.value.report["recommendations"]] == ["loud"]
    assert raised.value.report["failures"][0]["concept"] == "same"
    assert outcomes(store) == {"same": "failed", "loud": "completed"}
    assert store.rows("SELECT outcome FROM runs") == [{"outcome": "incomplete"}]
    mended = concept.model_copy(update={"name": "same"})
    Path(two.concepts[0]).write_text(yaml.safe_dump(mended.model_dump(mode="json", exclude_none=True)))
    again = run(two, store)
    assert counts(again, "computed")["activations"] == 0
    assert outcomes(store) == {"same": "completed", "loud": "completed"}
    (loud,) = store.rows("SELECT computed FROM raw.outcomes WHERE concept = 'loud' ORDER BY finished_at DESC LIMIT 1")
    assert loud["computed"] == 0


def test_a_cell_of_which_two_things_failed_is_one_cell(
    spec: Spec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken device fails the cell, and then the model's end as well."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no device any more")

    monkeypatch.setattr(Model, "close", broken)
    with Run(spec, store) as run:
        each_cell(run, broken)
        assert len(run.failures) == 2
        with pytest.raises(RunIncomplete, match="1 of 1 cells failed"):
            run.raise_failures({})


def test_one_concepts_extraction_fails_alone(two: Spec, store: Store) -> None:
    def extract(run: Any, model: Any, concepts: Any) -> None:
        if "same" in [concept.name for concept in concepts]:
            raise RuntimeError("too long")
        PLAIN.extract_activations(run, model, concepts)

    with pytest.raises(RunIncomplete):
        run(two, store, stages=dataclasses.replace(PLAIN, extract_activations=extract))
    assert outcomes(store) == {"same": "failed", "loud": "completed"}


def test_a_model_or_a_concept_that_is_not_there_fails_its_own_cells(spec: Spec, store: Store) -> None:
    wanted = spec.model_copy(update={"models": ("nowhere", *spec.models), "concepts": ("nothing", *spec.concepts)})
    with pytest.raises(RunIncomplete, match="3 of 4 cells failed") as raised:
        run(wanted, store)
    assert len(raised.value.report["recommendations"]) == 1


def test_where_nothing_was_found_and_one_error_did_it_that_error_is_raised(spec: Spec, store: Store) -> None:
    with pytest.raises(ModelNotFound):
        run(spec.model_copy(update={"models": ("nowhere",)}), store)
    with pytest.raises(ConceptError):
        run(spec.model_copy(update={"concepts": ("nothing",)}), store)
    assert store.rows("SELECT DISTINCT outcome FROM runs") == [{"outcome": "failed"}]


def test_every_stage_is_called_from_the_one_list_in_its_order(spec: Spec, store: Store) -> None:
    called: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        def stage(*arguments: Any) -> Any:
            called.append(name)
            return getattr(PLAIN, name)(*arguments)

        return stage

    names = [field.name for field in dataclasses.fields(Stages)]
    report = run(spec, store, stages=Stages(**{name: noted(name) for name in names}))
    assert list(dict.fromkeys(called)) == names
    assert called.count("generate_samples") == 2  # on validation and on test
    assert report["recommendations"] == run(spec, store)["recommendations"]


def test_an_error_that_no_cell_has_leaves_no_run_behind(spec: Spec, store: Store) -> None:
    with pytest.raises(ConceptError, match="loud"):
        run(spec.model_copy(update={"concepts": (*spec.concepts, *spec.concepts)}), store)
    with store.folder.try_lock(IN_USE) as alone:
        assert alone
    assert store.rows("SELECT run_id FROM runs") == []
