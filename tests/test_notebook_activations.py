"""Activations in notebooks: rows, frames and arrays, of one position and concept, stored or read by an open model."""

import importlib
import inspect
import pydoc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pytest

import steering_core as steer
from steering_core.foundation.errors import LayerNotFound, PackageMissing, QueryError
from steering_core.models import Model


def test_activations_are_frames_and_arrays(place: Path) -> None:
    found = steer.activations("agree", 1, store=place)
    values, positive = found.numpy()
    assert values.shape == (10, 32)
    assert positive.sum() == 5
    for frame in (found.pandas(), found.polars()):
        assert isinstance(frame, pandas.DataFrame | polars.DataFrame)
        np.testing.assert_array_equal(np.stack(list(frame["activation"])), values)
        assert list(frame["side"]) == ["positive" if side else "negative" for side in positive]
    assert repr(found) == "<Activations: 5 positive and 5 negative, layer 1, position response, width 32>"
    assert [row["side"] for row in found] == list(found.pandas()["side"])


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_package_that_is_not_there_is_named(place: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PackageMissing, match=f"pip install {package}, or take .table"):
        getattr(steer.activations("agree", 1, store=place), package)()


def test_an_open_model_reads_what_the_store_lacks(tiny: Model, agree_run: Path, tmp_path: Path) -> None:
    file = str(agree_run.parent / "agree.yaml")
    found = steer.activations(file, 3, model=tiny, store=tmp_path / "store")
    assert len(found) == 10
    assert found.pandas()["position"].unique().tolist() == ["response"]
    again = steer.activations(file, 3, model=tiny, store=tmp_path / "store", position="last", split="train")
    assert set(again.pandas()["split"]) == {"train"}
    assert set(again.pandas()["position"]) == {"last"}
    stored = steer.activations("agree", 3, store=tmp_path / "store", position="response")
    np.testing.assert_array_equal(stored.numpy()[0], found.numpy()[0])
    with pytest.raises(LayerNotFound, match="layer 9"):
        steer.activations(file, 9, model=tiny, store=tmp_path / "store")


@pytest.fixture(scope="module")
def several_positions(tiny: Model, agree_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every layer at three positions, of one of which there is one layer alone."""
    store, file = tmp_path_factory.mktemp("positions") / "store", str(agree_run.parent / "agree.yaml")
    steer.activations(file, [0, 1, 2, 3], model=tiny, store=store)
    steer.activations(file, range(4), model=tiny, store=store, position="all")
    steer.activations(file, 2, model=tiny, store=store, position="last")
    return store


def test_stored_activations_are_of_one_position_the_response_s_unless_another_is_named(several_positions: Path) -> None:
    found = steer.activations("agree", 1, store=several_positions)
    assert len(found) == len(found.numpy()[0]) == 10
    assert {row["position"] for row in found} == {"response"}
    assert len(steer.activations("agree", 1, split="train", store=several_positions)) < 10
    last = steer.activations("agree", 2, store=several_positions, position="last")
    assert "position last" in repr(last)
    assert not np.array_equal(last.numpy()[0], steer.activations("agree", 2, store=several_positions).numpy()[0])
    tokens = [row["token"] for row in steer.activations("agree", 1, store=several_positions, position="all")]
    assert tokens[:3] == [0, 1, 2]
    for wanted, says in (
        ({"layer": 1, "position": "last"}, r"at layer 1, but at 2: name one with layer="),
        ({"layer": 1, "position": "mean"}, r"at position mean, but at all, last, response: name one with position="),
        ({"layer": 1, "split": "dev"}, r"there is no split 'dev': name one of train, validation, test"),
        ({"layer": 1, "model": "other"}, r"no activations of 'agree': run a spec first"),
    ):
        with pytest.raises(QueryError, match=says):
            steer.activations("agree", **wanted, store=several_positions)  # type: ignore[arg-type]  # on purpose


def test_several_layers_are_read_in_one_pass_and_are_one_array(
    tiny: Model, agree_run: Path, tmp_path: Path, several_positions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    concept, passes = steer.load_concept(str(agree_run.parent / "agree.yaml")), []
    forward = type(tiny.network).__call__
    monkeypatch.setattr(
        type(tiny.network), "__call__", lambda *given, **named: passes.append(1) or forward(*given, **named)
    )
    steer.activations(concept, 3, model=tiny, store=tmp_path / "one")
    one, passes = len(passes), passes[:0]
    found = steer.activations(concept, [3, 0], model=tiny, store=tmp_path / "store")
    assert 0 < len(passes) <= one
    values, positive = found.numpy()
    assert values.shape == (10, 2, 32)
    assert positive.tolist() == [False, True] * 5
    assert repr(found).startswith("<Activations: 5 positive and 5 negative, layers 3, 0, position response")
    for i, layer in enumerate((3, 0)):
        alone = steer.activations(concept, np.int64(layer), store=several_positions)  # stored; no model
        np.testing.assert_allclose(values[:, i], alone.numpy()[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["15", 15.0, True, [1, "2"], None, []])
def test_a_layer_that_is_no_number_is_one_named_error(several_positions: Path, tiny: Model, layer: Any) -> None:
    for model in (None, tiny):
        with pytest.raises(LayerNotFound, match=r"is no whole number: give 0|no layer is named"):
            steer.activations("agree", layer, model=model, store=several_positions)


def test_an_edited_concept_s_activations_are_not_mixed_with_the_old_one_s(
    tiny: Model, agree_run: Path, tmp_path: Path
) -> None:
    concept = steer.load_concept(str(agree_run.parent / "agree.yaml"))
    edited = concept.model_copy(update={"pairs": concept.pairs[:3]})
    for one in (concept, edited):
        steer.activations(one, 1, model=tiny, store=tmp_path)
    assert len(steer.activations(edited, 1, store=tmp_path)) == 6
    assert len(steer.activations(concept, 1, store=tmp_path)) == 10
    with pytest.raises(QueryError, match="several concepts called 'agree': give the one that you mean"):
        steer.activations("agree", 1, store=tmp_path)


def test_activations_show_their_own_help() -> None:
    importlib.import_module("steering_core.activations.extract")
    assert inspect.isfunction(steer.activations)
    shown = pydoc.render_doc(steer.activations, renderer=pydoc.plaintext)
    assert "function activations in module steering_core.api.stored_activations" in shown
    assert "activations(concept" in shown
    assert list(inspect.signature(steer.activations).parameters)[:3] == ["concept", "layer", "model"]
