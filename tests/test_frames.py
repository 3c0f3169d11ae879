"""What notebooks ask for as frames beside a run's results: the library's vectors, and activations of texts."""

import json
from pathlib import Path

import numpy as np
import pytest

import steering_core as steer
from steering_core.cli import vectors as vector_verbs
from steering_core.foundation.errors import StoreError, VectorError, VectorNotFound
from steering_core.models import Model
from tests.explorer import copied
from tests.verbs import typed


@pytest.fixture(scope="module")
def place(agree_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(copied(agree_run, tmp_path_factory.mktemp("frames")).root)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {}),
        (["--controls"], {"controls": True}),
        (["agree"], {"name": "agree"}),
        (["agree/mean_difference/1"], {"name": "agree/mean_difference/1"}),
    ],
)
def test_the_library_is_listed_as_by_the_command(place: Path, words: list[str], given: dict[str, str]) -> None:
    found = steer.list_vectors(store=place, **given)  # type: ignore[arg-type]
    printed = typed(vector_verbs.app, "list", *words, "--store", str(place), "--format", "json")
    assert json.loads(json.dumps(list(found), default=str)) == printed
    assert len(found.pandas()) == len(found.polars()) == len(found) > 0
    assert found.pandas()["norm"].dtype == "float64"


def test_the_library_of_one_model_is_that_of_its_name_its_key_and_the_model(tiny: Model, tmp_path: Path) -> None:
    steer.save_vector(tiny, steer.Vector.from_numpy(tiny, np.ones(32), 1, residual_norm=1.0), "mine", tmp_path)
    for model in (tiny, tiny.name, tiny.identity.model_id, None):
        (row,) = steer.list_vectors(model=model, store=tmp_path)
        assert (row["name"], row["layer"], row["method"]) == ("mine", 1, "given")
    with pytest.raises(VectorError, match="the store has no model 'nobody': there are "):
        steer.list_vectors(model="nobody", store=tmp_path)
    with pytest.raises(VectorNotFound, match="did you mean 'mine'"):
        steer.list_vectors("mime", store=tmp_path)
    with pytest.raises(StoreError, match="there is no store at"):
        steer.list_vectors(store=tmp_path / "none")


TEXTS = ["I would love to.", "No.", "I would love to.", "Not today, thank you."]


def test_texts_have_activations_in_their_order_and_the_store_keeps_them(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = steer.activations((text for text in TEXTS), [2, 0], model=tiny, store=tmp_path)
    values = found.numpy()
    assert values.shape == (4, 2, 32)
    assert repr(found) == "<TextActivations: 4 texts, layers 2, 0, position last, width 32>"
    assert list(found.pandas()["text"]) == TEXTS * 2
    np.testing.assert_array_equal(values[0], values[2])
    monkeypatch.setattr(type(tiny.network), "__call__", None)  # it runs no more
    kept = steer.activations(TEXTS, 2, model=tiny, store=tmp_path)
    np.testing.assert_array_equal(kept.numpy(), values[:, 0])
    assert [row["position"] for row in kept] == ["last"] * 4


def test_they_are_what_vectors_are_derived_from(tiny: Model, tmp_path: Path) -> None:
    """The texts of either side, read alone, differ by the vector of both: with prompts as well as without."""
    sides = [["I would love to.", "Gladly!"], ["No.", "Never."]]
    answers = [[{"prompt": "Shall we go?", "text": text} for text in side] for side in sides]
    pairs = [{"prompt": "Shall we go?", "positive": a, "negative": b} for a, b in zip(*sides, strict=True)]
    for texts, vector in (
        (sides, steer.contrast(tiny, *sides, layer=1)),
        (answers, steer.derive_vector(tiny, pairs, layer=1)),
    ):
        means = [steer.activations(side, 1, model=tiny, store=tmp_path).numpy().mean(axis=0) for side in texts]
        np.testing.assert_allclose(means[0] - means[1], vector.direction, rtol=1e-4, atol=1e-5)


def test_every_token_of_texts_is_a_row(tiny: Model, tmp_path: Path) -> None:
    found = steer.activations(TEXTS[:2], 1, model=tiny, store=tmp_path, position="all")
    tokens = [(row["row"], row["token"]) for row in found]
    assert tokens == sorted(tokens)
    assert len(found.numpy()) == len(tokens) > 4
    assert repr(found).startswith("<TextActivations: 2 texts, layer 1, position all")


def test_activations_of_a_concept_have_their_texts(place: Path, agree_run: Path) -> None:
    concept = steer.load_concept(str(agree_run.parent / "agree.yaml"))
    frame = steer.activations("agree", 1, store=place).pandas()
    texts = {(text.row_id, text.side): text for text in concept.texts}
    for row in frame.to_dict("records"):
        text = texts[row["pair_id"], row["side"]]
        assert row["text"].endswith(text.text)
        assert text.prompt is None or row["text"].startswith(text.prompt)
