"""Vectors: derived from stored rows for all layers at once, found by name, labelled, and tied to their model."""

import dataclasses
import datetime
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.foundation.errors import StoreDamaged, VectorAmbiguous, VectorError, VectorMismatch, VectorNotFound
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import TABLES, Store
from steering_core.vectors import contrast, library, saving
from steering_core.vectors.controls import SAME
from steering_core.vectors.derive import derive
from steering_core.vectors.methods import METHODS, method
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector, cosine
from tests.stored import LAYERS, fill, identity, made_up_concept, planted_directions

MODEL = identity()
CONCEPT = made_up_concept("calm")
DIRECTIONS = planted_directions()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one concept's activations, to copy."""
    root = tmp_path_factory.mktemp("template") / "store"
    fill(Store(root), MODEL, CONCEPT, DIRECTIONS)
    return root


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Store:
    """A store with one concept's activations."""
    return Store(shutil.copytree(template, tmp_path / "filled", ignore=shutil.ignore_patterns("catalog.duckdb")))


def derived(
    store: Store, methods: tuple[str, ...] = ("mean_difference",), controls: int = 0, **more: Any
) -> list[Vector]:
    done = derive(store, MODEL, CONCEPT, methods, LAYERS, "last", controls, **more)
    return vectors_by_id(store, done.ids)


def test_every_layer_recovers_its_own_planted_direction(filled: Store) -> None:
    for vector in derived(filled):
        along = vector.direction @ DIRECTIONS[vector.layer] / vector.norm
        assert along > 0.98, vector.layer  # 12 pairs at noise 0.1
        assert vector.residual_norm == 10.0 + vector.layer
        assert (vector.n_pairs, vector.position, vector.architecture) == (12, "last", "llama")


def test_the_store_is_read_once_for_all_layers_and_methods(
    filled: Store, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, ...]] = []
    read = contrast.read_activations

    def counted(store: Store, model: Any, prompt_ids: Any, layers: Any, position: str) -> Any:
        reads.append(tuple(layers))
        return read(store, model, prompt_ids, layers, position)

    monkeypatch.setattr(contrast, "read_activations", counted)
    whole = derived(filled, tuple(METHODS), controls=2)
    assert reads == [LAYERS]
    assert len(whole) == len(METHODS) * len(LAYERS) * 5
    monkeypatch.setattr(contrast, "READ_BYTES", 1)  # a bound on memory: then layer by layer, to the same numbers
    other = Store(shutil.copytree(template, tmp_path / "other"))
    again = derived(other, tuple(METHODS), controls=2)
    assert reads[1:] == [(layer,) for layer in LAYERS]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.direction, b.direction)


def test_a_second_derivation_computes_nothing(filled: Store) -> None:
    first = derive(filled, MODEL, CONCEPT, ("mean_difference", "lda"), LAYERS, "last", 2)
    again = derive(filled, MODEL, CONCEPT, ("lda", "mean_difference"), LAYERS, "last", 3)
    assert (first.work.computed, first.work.reused) == (40, 0)
    assert (again.work.computed, again.work.reused) == (16, 40)  # the third controls alone


def test_controls_stand_beside_each_vector_at_its_norm(filled: Store) -> None:
    found = derived(filled, controls=3)
    assert [v.control for v in found[:7]] == [None, *3 * ["random"], *3 * ["shuffled"]]
    for i in range(0, len(found), 7):
        np.testing.assert_allclose([v.norm for v in found[i : i + 7]], found[i].norm, rtol=1e-6)
        assert len({v.seed for v in found[i + 1 : i + 7]}) == 6
        assert max(abs(cosine(a, b)) for a, b in itertools.combinations(found[i + 1 : i + 7], 2)) < SAME


def test_a_users_method_is_one_decorated_function(filled: Store) -> None:
    @method
    def median_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
        return np.median(positive - negative, axis=0)

    vectors = derived(filled, ("median_difference",))
    assert vectors[0].lineage["source"]  # its source is part of what made the vector
    assert vectors[0].direction @ DIRECTIONS[0] / vectors[0].norm > 0.97


def test_missing_rows_are_named(store: Store) -> None:
    with pytest.raises(VectorError, match="no training pairs of calm for made-up"):
        derived(store)
    fill(store, MODEL, CONCEPT, DIRECTIONS, layers=(0, 1))
    with pytest.raises(StoreDamaged, match="48 of the 96 activations"):
        derived(store)


def test_two_sides_alike_name_concept_and_layer(store: Store) -> None:
    fill(store, MODEL, CONCEPT, np.zeros_like(DIRECTIONS), noise=0.0)
    with pytest.raises(VectorError, match="calm at layer 0: mean_difference finds no direction in 12 pairs"):
        derived(store)


def test_dose_and_alpha_are_inverse(filled: Store) -> None:
    vector = derived(filled)[2]
    assert vector.dose(vector.alpha(0.3)) == pytest.approx(0.3)
    assert vector.alpha(1.0) * vector.norm == pytest.approx(vector.residual_norm)


# -- the library -----------------------------------------------------------------------------------------------------


def test_a_vector_is_found_by_key_by_what_it_is_and_by_name(filled: Store) -> None:
    wanted = derived(filled, ("mean_difference", "lda"), controls=1)[3]
    assert (wanted.method, wanted.layer) == ("mean_difference", 1)
    saving.rename(filled, [wanted], "serenity")
    for text in (wanted.vector_id, wanted.vector_id[:8], "calm/mean_difference/1", "serenity", "serenity/1"):
        assert library.find(filled, text, MODEL) == wanted, text
    assert len(library.find_all(filled, "calm/lda")) == len(LAYERS)
    assert len(library.find_all(filled, "calm")) == 2 * len(LAYERS)


def test_a_control_is_found_by_its_key_alone(filled: Store) -> None:
    control = derived(filled, controls=1)[1]
    assert control.control == "random"
    assert library.find(filled, control.vector_id) == control
    assert all(v.control is None for v in library.find_all(filled, "calm"))


def test_several_vectors_are_listed_with_their_keys(filled: Store) -> None:
    vectors = derived(filled)
    with pytest.raises(VectorAmbiguous, match="'calm' is 4 vectors") as caught:
        library.find(filled, "calm")
    assert all(v.vector_id in str(caught.value) for v in vectors)


def test_a_concept_alone_is_the_vector_that_its_latest_run_recommended(filled: Store) -> None:
    vectors = derived(filled)
    for at, chosen in enumerate(vectors[2:0:-1]):
        recommend(filled, chosen, f"recommendation {at}", at)
    assert library.find(filled, "calm") == vectors[1]
    assert library.find(filled, "calm/mean_difference") == vectors[1]


def test_a_recommendation_whose_vectors_are_null_recommends_none(filled: Store) -> None:
    vectors = derived(filled)
    recommend(filled, vectors[1], "recommendation 0", 0)
    recommend(filled, vectors[2], "recommendation 1", 1, vector_ids=[None])
    assert library.find(filled, "calm") == vectors[1]


def test_a_safe_dose_counts_where_its_run_says_no_time(filled: Store) -> None:
    vectors = derived(filled)
    recommend(filled, vectors[1], "recommendation 0", None, safe_dose=0.3)
    (found,) = (v.safe for v in vectors_by_id(filled, [vectors[1].vector_id]))
    assert found is not None
    assert found.dose == 0.3


def recommend(store: Store, vector: Vector, recommendation_id: str, at: int | None, **more: Any) -> None:
    def row(table: str, **known: Any) -> dict[str, Any]:
        return {**dict.fromkeys(store.query(f"SELECT * FROM raw.{table} LIMIT 0").column_names), **known}

    known = {"recommendation_id": recommendation_id, "vector_id": vector.vector_id, "model_id": vector.model_id}
    store.append("recommendations", [row("recommendations", **known, concept_id=vector.concept_id, **more)])
    started = None if at is None else datetime.datetime(2026, 1, 1 + at, tzinfo=datetime.UTC)
    run = row("runs", run_id=str(at), started_at=started, recommendation_ids=[recommendation_id])
    store.append("runs", [run])


def test_a_concept_that_grew_means_its_content_derived_last(filled: Store) -> None:
    old = derived(filled, ("mean_difference", "lda"))
    grown = made_up_concept("calm", 26)
    fill(filled, MODEL, grown, DIRECTIONS)
    new = vectors_by_id(filled, derive(filled, MODEL, grown, ["mean_difference"], LAYERS, "last", 0).ids)
    assert {v.vector_id for v in old}.isdisjoint(v.vector_id for v in new)

    assert library.named(filled, "calm/mean_difference", MODEL, several=True) == tuple(new)
    assert library.find(filled, "calm/mean_difference/1", MODEL) == new[1]
    assert library.find(filled, "calm/lda/1", MODEL).concept_id == CONCEPT.concept_id  # of which there is no newer
    assert library.find(filled, old[1].vector_id) == old[1]  # a key means what it says
    assert len(library.find_all(filled, "calm/mean_difference")) == 2 * len(LAYERS)  # to list and to remove

    again = derived(filled)  # the pairs were taken back
    assert library.named(filled, "calm/mean_difference", MODEL, several=True) == tuple(again)
    labels = filled.rows("FROM raw.labels")
    derived(filled)
    assert filled.rows("FROM raw.labels") == labels  # what came last already is not noted again


def test_an_ambiguous_name_shows_a_name_that_is_not(filled: Store) -> None:
    derived(filled)
    with pytest.raises(VectorAmbiguous, match="such as calm") as caught:
        library.find(filled, "calm")
    said = re.search("such as ([^;]+);.*`steer vectors rm ([0-9a-f]+)`", str(caught.value))
    assert said
    assert library.find(filled, said[1]).layer == LAYERS[0]
    assert library.find(filled, said[2])


def test_a_wrong_name_leads_to_the_right_one(filled: Store) -> None:
    derived(filled)
    with pytest.raises(VectorNotFound, match="did you mean 'calm/mean_difference'"):
        library.find(filled, "calm/mean_diference")
    other = identity("other", width=8)
    with pytest.raises(VectorNotFound, match=r"other .* has no vector 'calm'; made-up has"):
        library.find(filled, "calm", other)
    with pytest.raises(VectorNotFound, match="has no vector ffffffffffffffffffff"):
        vectors_by_id(filled, ["f" * 20])


def test_the_last_name_and_tags_hold(filled: Store) -> None:
    vectors = derived(filled)
    saving.rename(filled, vectors, "first")
    saving.rename(filled, vectors[:1], "second")
    saving.tag(filled, vectors[:2], "good")
    saving.tag(filled, vectors[:2], "tried")
    saving.tag(filled, vectors[:1], "tried", holds=False)
    rows = filled.rows("SELECT layer, name, tags FROM vectors ORDER BY layer")
    assert [(r["name"], r["tags"]) for r in rows[:3]] == [
        ("second", ["good"]),
        ("first", ["good", "tried"]),
        ("first", []),
    ]
    assert [v.layer for v in library.find_all(filled, "first")] == [1, 2, 3]


def test_a_removed_vector_is_gone_until_it_is_saved_again(filled: Store) -> None:
    vectors = derived(filled)
    saving.remove(filled, vectors[:1])
    with pytest.raises(VectorNotFound):
        library.find(filled, "calm/mean_difference/0")
    assert vectors_by_id(filled, [vectors[0].vector_id])  # results that came from it still find it
    saving.save(filled, vectors[:1], "back")
    assert library.find(filled, "back") == vectors[0]


def test_what_was_said_last_holds_though_the_clock_was_set_back(filled: Store) -> None:
    vector = derived(filled)[1]
    saving.remove(filled, [vector])
    later = "labelled_at + INTERVAL 10 YEAR AS labelled_at, 'ahead' AS label_id"
    ahead = filled.query(f"SELECT * REPLACE ({later}) FROM raw.labels")
    filled.publish("labels", ahead)  # as a clock that was ten years ahead has it
    for _ in range(3):
        saving.save(filled, [vector])
        assert library.find(filled, vector.vector_id) == vector
        saving.rename(filled, [vector], "first")
        saving.rename(filled, [vector], "second")
        assert library.find(filled, "second") == vector
        saving.remove(filled, [vector])
        with pytest.raises(VectorNotFound):
            library.find(filled, vector.vector_id)


def test_the_last_run_and_outcome_come_last_though_the_clock_was_set_back(filled: Store) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3650)
    run = dict.fromkeys(TABLES["runs"].schema.names) | {"run_id": "r", "started_at": later}
    filled.append("runs", [run])
    assert later < filled.time_after_all("runs", "started_at") < later + datetime.timedelta(seconds=2)
    with Run(Spec(models=("m",), concepts=("c",)), filled) as run:
        assert run.started_at > later


def test_a_removed_vector_is_there_again_when_it_is_derived_again(filled: Store) -> None:
    (vector, *_) = vectors = derived(filled, controls=1)
    saving.remove(filled, vectors)
    assert derived(filled)[0] == vector
    assert library.find(filled, "calm/mean_difference/0") == vector
    assert len(filled.rows("FROM vectors")) == len(LAYERS)  # the controls stay removed: they were not asked for


@pytest.mark.parametrize("name", ["", "a/b", "12", "abcdef12", "-x", "two words"])
def test_names_that_would_be_read_as_something_else_are_refused(filled: Store, name: str) -> None:
    with pytest.raises(VectorError, match="cannot be a vector's name"):
        saving.rename(filled, derived(filled)[:1], name)


def test_a_name_is_one_vector_a_layer(filled: Store) -> None:
    vectors = derived(filled, ("mean_difference", "lda"))
    saving.rename(filled, vectors[:4], "mine")
    with pytest.raises(VectorError, match="of that layer already"):
        saving.rename(filled, vectors[4:5], "mine")
    with pytest.raises(VectorError, match="one a layer"):
        saving.rename(filled, vectors, "all-of-them")


# -- models ----------------------------------------------------------------------------------------------------------


def test_a_vector_is_refused_by_another_model(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    vector = derived(filled)[0]
    vector.check(MODEL)
    twin = identity("twin", quantisation="4-bit")
    with pytest.raises(VectorMismatch, match=r"not for twin .* or allow vectors of the same family"):
        vector.check(twin)
    vector.check(twin, same_family=True)
    assert "was made for model" in caplog.text
    for stranger in (identity("wide", width=32), identity("qwen", architecture="qwen2")):
        with pytest.raises(VectorMismatch, match=r"derive it for that model$"):
            vector.check(stranger, same_family=True)


def test_a_vector_comes_back_from_the_store_as_it_was(filled: Store) -> None:
    vector = derived(filled)[0]
    made = dataclasses.replace(vector, vector_id="0" * 20, lineage={"made": "here", "of": ["there"]})
    saving.save(filled, [made])
    (found,) = vectors_by_id(filled, [made.vector_id])
    assert found == made
    assert found.lineage == made.lineage
    np.testing.assert_array_equal(found.direction, made.direction)
