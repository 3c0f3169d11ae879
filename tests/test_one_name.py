"""One name means one thing: its recommendation, at its layers and strength, in every verb, in Python and in the API."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.cli import chat, generate, vectors
from steering_core.exports.files import import_vectors
from steering_core.foundation.errors import (
    VectorAmbiguous,
    VectorError,
    VectorNotFound,
)
from steering_core.interventions.change import Intervention
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.pipeline.steered import steered_cell
from steering_core.reports.next_steps import next_command
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.keyed import by_key
from tests.explorer import serving
from tests.sailors import LAYERS, doses, recommend, run, saved_at


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sailor", {1: 0.3, 2: 0.1}),
        ("-sailor", {1: -0.3, 2: -0.1}),
        ("80%*sailor", {1: 0.6, 2: 0.2}),  # a recommendation's dose is the sum over its layers
        ("sailor/1", {1: None}),  # one of them alone was not measured: alpha 1
        ("sailor[0,3]", {0: None, 3: None}),
    ],
)
def test_an_expression_takes_layers_and_strength(
    tiny: Model, shelf: Store, sailors: list[steer.Vector], expression: str, expected: dict[int, float | None]
) -> None:
    at_one = {layer: round(sailors[layer].dose(1.0), 6) for layer in range(4)}
    wanted = {layer: at_one[layer] if dose is None else dose for layer, dose in expected.items()}
    assert doses(intervention(tiny, expression, store=shelf.root), sailors) == wanted


def test_python_the_command_line_chat_and_the_api_give_one_text(
    tiny: Model, tiny_folder: Path, shelf: Store, sailors: list[steer.Vector]
) -> None:
    by_hand = sum(
        (sailors[layer].intervention(sailors[layer].alpha(dose), "generation") for layer, dose in ((1, 0.3), (2, 0.1))),
        Intervention(),
    )
    text = steer.generate(tiny, "Hello", by_hand, max_tokens=8)
    assert text != steer.generate(tiny, "Hello", max_tokens=8)
    assert steer.generate(tiny, "Hello", "sailor", max_tokens=8, store=shelf.root) == text
    found = steer.find_vectors(tiny, "sailor", shelf.root)
    assert steer.generate(tiny, "Hello", found, max_tokens=8) == text
    at, model = ("--store", str(shelf.root), "--max-tokens", "8"), str(tiny_folder)
    assert run(generate.app, model, "Hello", "-v", "sailor", "--stream", *at).stdout == text + "\n"
    said = run(chat.app, model, *at, "--temperature", "0", said="/vector sailor\nHello\n").stdout
    alphas = [sailors[layer].alpha(dose) for layer, dose in ((1, 0.3), (2, 0.1))]
    places = f"layer 1 with alpha {alphas[0]:.3g}, dose 0.3, layer 2 with alpha {alphas[1]:.3g}, dose 0.1"
    assert said == f"steering: sailor (sailor at {places})\n{text}\n"
    with serving(shelf, models=[model]) as client:
        steering = {"vectors": [{"vector": "sailor"}]}
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
        answer = client.post("/v1/chat/completions", json={**asked, "steering": steering}).json()
    assert answer["choices"][0]["message"]["content"] == text


def test_other_layers_are_asked_for(tiny: Model, tiny_folder: Path, shelf: Store, sailors: list[steer.Vector]) -> None:
    assert [v.layer for v in steer.find_vectors(tiny, "sailor", shelf.root, layers="all")] == [0, 1, 2, 3]
    (three,) = steer.find_vectors(tiny, "sailor", shelf.root, layers=[3])
    assert three.recommended is None
    with pytest.raises(VectorAmbiguous, match="layers 1, 2"):
        steer.find_vector(tiny, "sailor", shelf.root)
    assert steer.find_vector(tiny, "sailor", shelf.root, layer=3) == three
    at = ("--store", str(shelf.root), "--max-tokens", "8")
    alone = steer.generate(tiny, "Hello", three, alpha=5, max_tokens=8)
    done = run(generate.app, str(tiny_folder), "Hello", "-v", "sailor", "-a", "5", "--layers", "3", "--stream", *at)
    assert done.stdout == alone + "\n"


def test_export_and_blend_take_what_is_recommended_and_the_blend_is_used_at_once(
    tiny: Model, tiny_folder: Path, shelf: Store, tmp_path: Path
) -> None:
    at = ("--store", str(shelf.root))
    run(vectors.app, "export", "sailor", "--to", str(tmp_path / "sailor.npz"), *at)
    strong = [v.direction * v.recommended for v in steer.find_vectors(tiny, "sailor", shelf.root)]
    back = import_vectors(Store(tmp_path / "other"), tmp_path / "sailor.npz", tiny)
    assert [v.layer for v in back] == list(LAYERS)
    for there, here in zip(back, strong, strict=True):
        np.testing.assert_allclose(there.direction, here, rtol=1e-6)
    run(vectors.app, "export", "sailor", "--all-layers", "--to", str(tmp_path / "all.npz"), *at)
    everything = import_vectors(Store(tmp_path / "all"), tmp_path / "all.npz", tiny)
    assert [v.layer for v in everything] == [0, 1, 2, 3]
    said = run(vectors.app, "blend", "sailor", "0.5*sailor/3", "--name", "both", *at).stdout
    assert "Nothing was added up" in said
    assert "sailor at layers 1, 2; 0.5*sailor/3 at layers 3" in said
    said = run(vectors.app, "blend", "sailor", "0.5*sailor/2", "--name", "partly", *at).stdout
    assert "All terms are added up at layers 2:" in said
    assert "--layers 2 takes only these" in said
    said = run(vectors.app, "blend", "sailor/2", "0.5*sailor/2", "--name", "wholly", *at).stdout
    assert said.count("\n") == 1
    blended = steer.generate(tiny, "Hello", "both", max_tokens=8, store=shelf.root)
    apart = steer.generate(tiny, "Hello", "sailor + 0.5*sailor/3", max_tokens=8, store=shelf.root)
    assert blended == apart
    done = run(generate.app, str(tiny_folder), "Hello", "-v", "both", "--stream", "--max-tokens", "8", *at)
    assert done.stdout == apart + "\n"


def test_an_import_of_what_is_there_says_what_it_is_called(shelf: Store, tmp_path: Path) -> None:
    at = ("--store", str(shelf.root))
    run(vectors.app, "export", "sailor/3", "--to", str(tmp_path / "one.safetensors"), "--alpha", "1", *at)
    run(vectors.app, "name", "sailor/3", "seaman", *at)
    said = run(vectors.app, "import", str(tmp_path / "one.safetensors"), "--name", "mate", *at).stdout
    assert "The same direction as seaman, which keeps its name: what goes by mate is a copy." in said
    again = run(vectors.app, "import", str(tmp_path / "one.safetensors"), "--name", "seaman", *at).stdout
    assert "The same direction" not in again


def test_an_expression_by_key_keeps_the_strengths(tiny: Model, shelf: Store, sailors: list[steer.Vector]) -> None:
    keyed, used = by_key("sailor", lambda name: library.named(shelf, name, tiny.identity), 4)
    assert [v.layer for v in used] == list(LAYERS)
    assert doses(intervention(tiny, str(keyed), store=shelf.root), sailors) == pytest.approx({1: 0.3, 2: 0.1}, rel=1e-5)


def test_importing_under_a_name_leaves_the_first_name(tiny: Model, shelf: Store, tmp_path: Path) -> None:
    w = np.ones(32)
    steer.save_vector(tiny, steer.Vector.from_numpy(tiny, w, layer=2, name="first"), store=shelf.root)
    run(vectors.app, "export", "first", "--to", str(tmp_path / "v.safetensors"), "--store", str(shelf.root))
    done = run(vectors.app, "import", str(tmp_path / "v.safetensors"), "--name", "second", "--store", str(shelf.root))
    assert done.stdout.startswith("second: ")
    for name in ("first", "second"):
        np.testing.assert_array_equal(steer.find_vector(tiny, name, shelf.root).direction, w)


def test_no_vector_takes_the_name_of_a_recommendation(tiny: Model, shelf: Store, tmp_path: Path) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    before = library.named(shelf, "sailor", tiny.identity)
    says = "'sailor' means what was recommended for that concept on .*tiny, .*take another name, such as sailor-2"
    with pytest.raises(VectorError, match=says):
        steer.save_vector(tiny, joy, "sailor", shelf.root)
    with pytest.raises(VectorError, match=says):
        saving.rename(shelf, [library.find(shelf, "sailor/3", tiny.identity)], "sailor")
    steer.save_vector(tiny, joy, "sailor-2", shelf.root)
    run(vectors.app, "export", "sailor-2", "--to", str(tmp_path / "v.safetensors"), "--store", str(shelf.root))
    given = ["import", str(tmp_path / "v.safetensors"), "--name", "sailor", "--store", str(shelf.root)]
    refused = CliRunner().invoke(vectors.app, given)
    assert isinstance(refused.exception, VectorError)
    assert library.named(shelf, "sailor", tiny.identity) == before
    steer.save_vector(tiny, joy, "sailor", tmp_path / "other")  # a store without that recommendation
    assert steer.find_vector(tiny, "sailor", tmp_path / "other") == joy


def test_a_name_does_not_stand_for_a_recommendation_with_vectors_of_others(
    tiny: Model, shelf: Store, sailors: list[steer.Vector]
) -> None:
    mine = steer.save_vector(
        tiny, steer.Vector.from_numpy(tiny, np.ones(32), layer=1, residual_norm=1.0), "mine", shelf.root
    )
    ids = [mine.vector_id, sailors[1].vector_id]
    recommend(shelf, sailors[1], ids, " + ".join(f"8%*{key}" for key in ids) + " @generation", safe_dose=0.2)
    with pytest.raises(VectorAmbiguous, match=rf"has vectors .* not of that concept.*: 8%\*mine \+ 8%\*{ids[1]} @gen"):
        steer.find_vectors(tiny, "sailor", shelf.root)
    assert [v.vector_id for v in steer.find_vectors(tiny, "sailor/1", shelf.root)] == [sailors[1].vector_id]
    assert len(steer.find_vectors(tiny, "sailor", shelf.root, layers="all")) == len(sailors)
    newest = "SELECT * FROM recommendations WHERE safe_dose = 0.2"
    (row,) = shelf.rows(newest)
    assert f"--steer '8%*mine + 8%*{ids[1]} @generation'" in next_command(shelf, {**row, "verdict": "works"})


@pytest.mark.parametrize("has_own", [True, False])
def test_a_concept_s_name_means_the_vector_of_the_library_that_was_recommended_for_it(
    tiny: Model, shelf: Store, sailors: list[steer.Vector], has_own: bool
) -> None:
    if not has_own:
        saving.remove(shelf, sailors)
    mine = saved_at(tiny, shelf, "mine", 3)
    recommend(shelf, sailors[1], [mine.vector_id], f"30%*{mine.vector_id} @generation", safe_dose=0.4)
    (found,) = steer.find_vectors(tiny, "sailor", shelf.root)
    assert (found.vector_id, found.dose(found.recommended)) == (mine.vector_id, pytest.approx(0.3))
    for expression, dose in {"sailor": 0.3, "-sailor": -0.3, "20%*sailor": 0.2}.items():
        assert doses(intervention(tiny, expression, store=shelf.root), [mine] * 4) == {3: dose}
    (row,) = shelf.rows("SELECT * FROM recommendations WHERE safe_dose = 0.4")
    assert "--vector sailor" in next_command(shelf, {**row, "verdict": "works"})
    saving.remove(shelf, [mine])
    if has_own:
        assert [v.layer for v in steer.find_vectors(tiny, "sailor", shelf.root)] == list(LAYERS)
    else:
        with pytest.raises(VectorNotFound, match="sailor"):
            steer.find_vectors(tiny, "sailor", shelf.root)


def test_a_recommendation_is_the_same_cell_in_whatever_order_it_names_its_layers(
    tiny: Model, sailors: list[steer.Vector], shelf: Store
) -> None:
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    for file in Path(shelf.root, "recommendations").glob("*.parquet"):
        file.unlink()
    backwards, store = f"10%*{two} + 30%*{one} @generation", Store(shelf.root)
    recommend(store, sailors[1], [two, one], backwards)
    cell = steered_cell(
        tiny, store, parse("sailor @generation"), lambda name: library.named(store, name, tiny.identity)
    )
    assert cell.expression == backwards
