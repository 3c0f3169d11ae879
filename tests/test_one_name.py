"""One name means one thing: its recommendation, at its layers and strength, in every verb, in Python and in the API."""

import dataclasses
import datetime
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.cli import chat, generate, vectors
from steering_core.explorer.routes.openai import WARNED
from steering_core.exports.files import import_vectors
from steering_core.foundation.errors import (
    InterventionError,
    SteeringWarning,
    VectorAmbiguous,
    VectorError,
    VectorNotFound,
)
from steering_core.interventions.change import Intervention
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.pipeline.rows import concept_row
from steering_core.pipeline.steered import steered_cell
from steering_core.reports.next_steps import next_command
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.keyed import by_key
from tests.explorer import serving
from tests.stored import made_up_concept

LAYERS = (1, 2)
STEER = Path(sys.executable).with_name("steer")


def sailor_at(model: Model, concept_id: str, layer: int) -> steer.Vector:
    direction = np.random.default_rng(layer).standard_normal(model.identity.width)
    made = steer.Vector.from_numpy(model, direction, layer)
    return dataclasses.replace(made, concept_id=concept_id, method="mean_difference")


@pytest.fixture(scope="module")
def sailors(tiny: Model) -> list[steer.Vector]:
    return [sailor_at(tiny, made_up_concept("sailor").concept_id, layer) for layer in range(4)]


@pytest.fixture
def shelf(tiny: Model, sailors: list[steer.Vector], tmp_path: Path) -> Store:
    """A store in which layers 1 and 2 of `sailor` are recommended together, at doses 0.3 and 0.1."""
    store = Store(tmp_path / "shelf")
    store.append("models", [dataclasses.asdict(tiny.identity)])
    store.append("concepts", [concept_row(made_up_concept("sailor"))])
    saving.save(store, sailors)
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    recommend(store, sailors[1], [one, two], f"30%*{one} + 10%*{two} @generation")
    return store


def recommend(store: Store, vector: steer.Vector, ids: list[str], expression: str, **measured: float) -> None:
    def row(table: str, **known: Any) -> dict[str, Any]:
        return {**dict.fromkeys(store.query(f"SELECT * FROM raw.{table} LIMIT 0").column_names), **known}

    key = f"{expression} {measured}"
    known = {"recommendation_id": key, "model_id": vector.model_id, "concept_id": vector.concept_id}
    store.append(
        "recommendations", [row("recommendations", **known, vector_ids=ids, intervention=expression, **measured)]
    )
    started = datetime.datetime(2026, 1, 1 + len(measured), tzinfo=datetime.UTC)
    store.append("runs", [row("runs", run_id=key, started_at=started, recommendation_ids=[key])])


def doses(done: Intervention, sailors: list[steer.Vector]) -> dict[int, float]:
    return {c.layer: round(sailors[c.layer].dose(c.amount), 6) for c in done.changes}


def run(app: object, *arguments: str, said: str | None = None) -> Result:
    done = CliRunner().invoke(app, list(arguments), input=said)
    assert done.exit_code == 0, done.output
    return done


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


def test_what_is_saved_is_what_is_found(tiny: Model, shelf: Store) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    other = dataclasses.replace(joy, direction=-joy.direction)  # the same key, another direction
    steer.save_vector(tiny, joy, "joy", shelf.root)
    saved = steer.save_vector(tiny, other, "other", shelf.root)
    np.testing.assert_array_equal(steer.find_vector(tiny, "other", shelf.root).direction, -joy.direction)
    assert saved.vector_id != joy.vector_id
    assert steer.find_vector(tiny, "joy", shelf.root).vector_id == joy.vector_id
    steer.save_vector(tiny, joy, "bliss", shelf.root)
    assert steer.find_vector(tiny, "joy", shelf.root).vector_id == joy.vector_id  # the first name stays
    np.testing.assert_array_equal(steer.find_vector(tiny, "bliss", shelf.root).direction, joy.direction)
    with pytest.raises(VectorError, match="another direction under the key"):
        saving.save(shelf, [other])


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": np.ones(100, np.float32)}, "size 100, and the residual stream has width 32"),
        ({"layer": 99}, r"layer 99, and there are layers 0\.\.3"),
        ({"direction": np.full(32, np.nan, np.float32)}, "32 of its numbers are nan or inf"),
        ({"direction": np.zeros(32, np.float32)}, "is zero"),
    ],
)
def test_a_vector_that_does_not_fit_its_model_is_not_saved(
    tiny: Model, shelf: Store, change: dict[str, Any], said: str
) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    with pytest.raises(VectorError, match=said):
        steer.save_vector(tiny, dataclasses.replace(joy, **change), "joy", shelf.root)
    given = {"direction": joy.direction, "layer": 2} | change
    with pytest.raises(VectorError, match=said):
        steer.Vector.from_numpy(tiny, given["direction"], given["layer"])


def test_a_direction_of_ones_own_is_filled_in(tiny: Model, shelf: Store) -> None:
    w = np.random.default_rng(0).standard_normal((1, 32))  # as scikit-learn's coef_
    mine = steer.Vector.from_numpy(tiny, w, layer=2, name="probe")
    assert (mine.layer, mine.direction.shape) == (2, (32,))
    assert mine.residual_norm > 0
    steer.save_vector(tiny, mine, store=shelf.root)
    assert steer.find_vector(tiny, "probe", shelf.root) == mine
    with pytest.raises(VectorError, match="under a name"):
        steer.save_vector(tiny, steer.Vector.from_numpy(tiny, w, layer=2), store=shelf.root)


def test_vectors_are_added_and_multiplied(tiny: Model) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    calm = steer.contrast(tiny, "All is calm.", "What a storm!", layer=2)
    made = 2 * joy - calm / 4 + np.float64(0.5) * -calm
    np.testing.assert_allclose(made.direction, 2 * joy.direction - 0.75 * calm.direction, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError):
        joy * "two"  # type: ignore[operator]
    assert "contrast at layer 2, position last, width 32" in repr(joy)


def test_a_strength_is_alpha_or_dose(tiny: Model) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    by_dose = steer.generate(tiny, "Hello", joy, dose=0.9, max_tokens=8)
    assert by_dose == steer.generate(tiny, "Hello", joy, alpha=joy.alpha(0.9), max_tokens=8)
    with pytest.raises(InterventionError, match="not both"):
        steer.generate(tiny, "Hello", joy, alpha=1, dose=1)
    with pytest.raises(TypeError, match=r"no option 'max_token'.*max_tokens"):
        steer.generate(tiny, "Hello", joy, max_token=3)  # type: ignore[call-arg]


def test_several_turns_are_a_list_of_messages(tiny: Model) -> None:
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
    turn = [*said, {"role": "user", "content": "More"}]
    one, several = (steer.generate(tiny, text, max_tokens=8) for text in ("More", turn))
    assert one != several
    assert steer.generate(tiny, turn[-1:], max_tokens=8) == one
    assert "".join(steer.stream(tiny, turn, max_tokens=8)) == several


def test_lists_are_pairs_and_of_unequal_length_unpaired(tiny: Model) -> None:
    pairs = [("I love it", "I hate it"), ("Joy!", "Grief!")]
    lists = steer.contrast(tiny, [a for a, _ in pairs], [b for _, b in pairs], layer=1)
    assert lists == steer.derive_vector(tiny, pairs, layer=1)
    apart = steer.contrast(tiny, ["a", "b"], ["c"], layer=1)
    assert apart == steer.derive_vector(tiny, steer.unpaired(["a", "b"], ["c"]), layer=1) != lists
    with pytest.raises(VectorError, match="one side is a text"):
        steer.contrast(tiny, "a", ["c"], layer=1)


def test_models_and_stores_say_what_they_are(tiny: Model, shelf: Store) -> None:
    assert ": llama, 4 layers, width 32, float32, " in repr(tiny)
    assert repr(shelf).endswith("1 models, 1 concepts, 4 vectors, 1 recommendations>")


@pytest.fixture
def measured(shelf: Store, sailors: list[steer.Vector]) -> Store:
    """The same, and both layers together were measured as safe up to a dose of 0.5."""
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    recommend(shelf, sailors[1], [one, two], f"30%*{one} + 10%*{two} @generation", safe_dose=0.5)
    return shelf


CAUTION = "a dose of 0.8 of sailor is beyond 0.5, up to which it was measured as safe: the text may fall apart; "


@pytest.mark.parametrize(
    ("expression", "cautioned"),
    [
        ("sailor", False),
        ("50%*sailor", False),
        ("80%*sailor", True),
        ("-80%*sailor", True),
        ("40%*sailor; 40%*sailor @all", True),  # together
        ("30%*sailor/1", False),
        ("clamp(sailor/1, 80%)", False),  # no dose
    ],
)
def test_a_dose_beyond_the_measured_range_warns(
    tiny: Model, measured: Store, expression: str, cautioned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    done = intervention(tiny, expression, store=measured.root)
    said = [str(one.message) for one in recwarn if one.category is SteeringWarning]
    assert said == list(done.cautions) == ([f"{CAUTION}stay within 50%*sailor"] if cautioned else [])


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


def saved_at(model: Model, store: Store, name: str, layer: int) -> steer.Vector:
    made = steer.Vector.from_numpy(model, np.arange(1, 33), layer=layer, residual_norm=2.0)
    return steer.save_vector(model, made, name, store.root)


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


def test_a_caution_names_the_vector_that_was_measured_and_what_it_proposes_is_safe(
    tiny: Model, shelf: Store, sailors: list[steer.Vector]
) -> None:
    mine = saved_at(tiny, shelf, "mine", 3)
    recommend(shelf, sailors[1], [mine.vector_id], f"30%*{mine.vector_id} @generation", safe_dose=0.4)
    saved_at(tiny, shelf, "mine", 0)  # the name alone means two layers from now on
    for name in ("sailor", "mine/3"):
        with pytest.warns(SteeringWarning, match=r"a dose of 0.8 of mine/3 is beyond 0.4,.* stay within 40%\*mine/3$"):
            intervention(tiny, f"80%*{name}", store=shelf.root)
    assert doses(intervention(tiny, "40%*mine/3", store=shelf.root), [mine] * 4) == {3: 0.4}


def test_a_dose_of_a_name_is_told_how_to_be_written(tiny: Model, shelf: Store) -> None:
    with pytest.raises(
        InterventionError, match=r"dose = -0.3 is for a vector alone: .* in the expression, -30%\*sailor"
    ):
        steer.generate(tiny, "Hello", "sailor", dose=-0.3, store=shelf.root)


def test_a_dose_that_nobody_measured_and_no_text_bears_warns(tiny: Model, tmp_path: Path) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    with pytest.warns(
        SteeringWarning,
        match=r"a dose of 3 of \w+ was never measured, and beyond 2 hardly a text survives: begin at 30%,",
    ):
        steer.generate(tiny, "Hello", joy, dose=3, max_tokens=1)
    assert joy.intervention(joy.alpha(1.9), "all").cautions == ()
    assert dataclasses.replace(joy, residual_norm=math.nan).intervention(1e6, "all").cautions == ()


def test_the_warning_is_at_the_caller_s_line(tiny: Model, measured: Store) -> None:
    found = steer.find_vectors(tiny, "sailor", measured.root)
    with pytest.warns(SteeringWarning, match="a dose of 1 of sailor is beyond 0.5") as seen:
        steer.generate(tiny, "Hello", found, dose=0.5, max_tokens=1)  # 0.5 in each of two layers
    assert seen[0].filename == __file__


def test_the_command_line_chat_and_the_api_warn_alike(tiny_folder: Path, measured: Store) -> None:
    at, model = ("--store", str(measured.root), "--max-tokens", "4"), str(tiny_folder)
    done = subprocess.run(
        [STEER, "generate", model, "Hello", "-s", "80%*sailor", *at], capture_output=True, text=True, check=True
    )
    assert done.stderr.count(CAUTION) == 1, done.stderr
    assert "beyond" not in done.stdout
    lines = "/steer 80%*sailor\nHello\nHello\n"
    chatted = subprocess.run([STEER, "chat", model, *at], input=lines, capture_output=True, text=True, check=True)
    assert chatted.stderr.count(CAUTION) == 1, chatted.stderr  # once, and not with each answer
    steering = {"expression": "80%*sailor"}
    with serving(measured, models=[model]) as client:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        answer = client.post("/v1/chat/completions", json={**asked, "steering": steering})
        assert answer.headers[WARNED].startswith(CAUTION)
        assert answer.json()["steering_warnings"][0].startswith(CAUTION)
        assert WARNED not in client.post("/v1/chat/completions", json=asked).headers
        streamed = client.post("/v1/chat/completions", json={**asked, "steering": steering, "stream": True}).text
        assert streamed.count(CAUTION) == streamed.count('"choices"')
        shown = client.post("/api/steer", json={"model": model, "prompt": "Hello", "steering": steering}).text
        assert shown.count(CAUTION) == 1


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
