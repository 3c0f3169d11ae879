"""Baked folders and adapters: what plain mlx-lm makes of them is what the runtime makes of the expression."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from steering_core.api.stored_vectors import save_vector
from steering_core.backend.mlx import mx, nn
from steering_core.baking.bake import bake
from steering_core.baking.card import card
from steering_core.candidates.answers import neutral_answers
from steering_core.candidates.cell import Cell
from steering_core.cli.bake import app
from steering_core.engine.steering import Steering
from steering_core.foundation.errors import NotBakeable
from steering_core.interventions.change import UNTOUCHED, Change, Intervention
from steering_core.interventions.parsing import parse
from steering_core.models import Model, open_model
from steering_core.models.mlx_lm import named_weights, quantise_folder, stored_network, write_config, write_weights
from steering_core.pipeline.rows import concept_row
from steering_core.pipeline.wanted import answered
from steering_core.scores.metrics import Setup, damage, propensity
from steering_core.spec import GenerationsSpec, ScoresSpec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy
from tests.baked import ADDED, TAKEN_OUT, keep_vectors
from tests.plain_mlx_lm import TOKENS
from tests.tiny import save_tiny_model

CONFIGS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("architectures.json").read_text())
WITH_CODE = {"qwen3", "gemma2", "gemma3"}  # no bias behind their last projections, in no architecture of mlx-lm
SHAPES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")


def saved(folder: Path, shape: str, **changes: Any) -> Path:
    """A tiny model of that shape, with the vocabulary of the byte tokenizer."""
    config = {**CONFIGS[shape], "vocab_size": 260, **changes}
    if "text_config" in config:
        config["text_config"] = {**config["text_config"], "vocab_size": 260}
    return save_tiny_model(folder, config)


def plain(to: Path, *folders: str) -> dict[str, np.ndarray]:
    """Logits (T, V) of each folder, or FOLDER@ADAPTER, from mlx-lm in a process that has no steerflow."""
    script = Path(__file__).with_name("plain_mlx_lm.py")
    command = [sys.executable, "-P", str(script), "logits", str(to), *folders]
    subprocess.run(command, check=True, cwd=to.parent, timeout=300)
    with np.load(to) as found:
        return dict(found)


def runtime(model: Model, intervention: Intervention = UNTOUCHED) -> np.ndarray:
    """Logits (T, V) of the runtime under an intervention that acts at every token."""
    edits = Steering([intervention], [1]).edits(0, len(TOKENS[0]))
    with model.taps.applied(edits):
        return np.array(model.network(mx.array(TOKENS), cache=model.new_cache()).astype(mx.float32))[0]


class Less(nn.Module):
    """A projection whose output has no component along `unit`."""

    def __init__(self, module: nn.Module, unit: np.ndarray) -> None:
        super().__init__()
        self.inner, self.unit = module, mx.array(unit)

    def __call__(self, x: mx.array) -> mx.array:
        y = self.inner(x)
        return y - (y @ self.unit)[..., None] * self.unit


def taken_out(folder: Path, direction: np.ndarray, blocks: int) -> np.ndarray:
    """Logits where the projections of the first blocks write nothing along a direction, done at their outputs."""
    with open_model(str(folder)) as model:
        for block in model.network.layers[:blocks]:
            gemma = "post_feedforward_layernorm" in block
            for place, name, norm in (
                (block.self_attn, "o_proj", "post_attention_layernorm"),
                (block.mlp, "down_proj", "post_feedforward_layernorm"),
            ):
                gain = 1 + np.array(block[norm].weight) if gemma else 1.0
                seen = (gain * direction).astype(np.float32)
                place[name] = Less(place[name], seen / np.linalg.norm(seen))
        return runtime(model)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_mlx_lm_gives_the_logits_of_the_runtime(shape: str, tmp_path: Path) -> None:
    source, store = saved(tmp_path / "model", shape), tmp_path / "store"
    before = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in source.iterdir()}
    with open_model(str(source)) as model:
        vectors = keep_vectors(model, store)
        expected = runtime(model, Intervention((Change(1, vectors["push"].direction, 2.0),)))
        untouched = runtime(model)
    added = bake(str(source), ADDED, tmp_path / "added", store=store)
    less = bake(str(source), TAKEN_OUT, tmp_path / "less", store=store)
    adapter = bake(str(source), TAKEN_OUT, tmp_path / "adapter", store=store, adapter=True)
    assert added.runs_code == (shape in WITH_CODE)
    assert not less.runs_code
    places = [str(added.folder), str(less.folder), f"{source}@{adapter.folder}"]
    found = plain(tmp_path / "logits.npz", *places)
    assert np.abs(found[places[0]] - expected).max() < 1e-4
    removed = taken_out(source, vectors["pull"].direction, blocks=3)
    assert np.abs(found[places[1]] - removed).max() < 1e-4
    assert np.abs(found[places[2]] - removed).max() < 1e-4
    for changed in (expected, removed):  # there was something to be equal to
        assert np.abs(changed - untouched).max() > 0.3
    assert before == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in source.iterdir()}


def test_a_direction_leaves_the_stream_where_the_embeddings_lose_it_too(tmp_path: Path) -> None:
    source, store = saved(tmp_path / "model", "llama"), tmp_path / "store"
    with open_model(str(source)) as model:
        unit = keep_vectors(model, store)["pull"].direction
        unit = unit / np.linalg.norm(unit)
        head = np.array(model.network.model.embed_tokens.weight)
    bake(str(source), "!pull @all @layers(0..3)", tmp_path / "out", store=store, embeddings=True)
    with open_model(str(tmp_path / "out")) as baked:
        streams: dict[int, mx.array] = {}
        with baked.taps.followed(streams.__setitem__):
            baked.network(mx.array(TOKENS))
        for stream in streams.values():
            assert np.abs(np.array(stream) @ unit).max() < 1e-5
        assert np.array_equal(np.array(baked.network.lm_head.weight), head)  # what tokens are read off stays
    with pytest.raises(NotBakeable, match="head as well"):
        bake(str(source), TAKEN_OUT, tmp_path / "adapter", store=store, embeddings=True, adapter=True)
    with pytest.raises(NotBakeable, match="adds vectors alone"):
        bake(str(source), ADDED, tmp_path / "added", store=store, embeddings=True)


def test_four_bits_are_kept_and_their_error_is_stated(tmp_path: Path) -> None:
    wide = saved(tmp_path / "wide", "llama", hidden_size=64, intermediate_size=128)
    source, store = tmp_path / "four", tmp_path / "store"
    quantise_folder(wide, source, 4)
    with open_model(str(source)) as model:
        vectors = keep_vectors(model, store)
        expected = runtime(model, Intervention((Change(1, vectors["push"].direction, 2.0),)))
    added = bake(str(source), ADDED, tmp_path / "added", store=store)
    less = bake(str(source), TAKEN_OUT, tmp_path / "less", store=store)
    adapter = bake(str(source), TAKEN_OUT, tmp_path / "adapter", store=store, adapter=True)
    places = [str(added.folder), str(less.folder), f"{source}@{adapter.folder}"]
    found = plain(tmp_path / "logits.npz", *places)
    removed = taken_out(source, vectors["pull"].direction, blocks=3)
    assert added.requantised is None  # a bias beside a quantised matrix changes no matrix
    assert np.abs(found[places[0]] - expected).max() < 1e-3
    assert less.requantised is not None
    assert 0.001 < less.requantised < 0.01  # of 8 bits, where 4 would be off by a tenth
    assert less.difference.largest < 0.1 * less.difference.effect
    assert "have 8 bits" in less.says
    cost = np.abs(found[places[1]] - removed).max()
    assert 0.2 * less.difference.largest < cost < 5 * less.difference.largest  # on other tokens than the stated ones
    assert np.abs(found[places[2]] - removed).max() < 1e-3  # an adapter quantises nothing
    kept = json.loads((tmp_path / "less" / "config.json").read_text())["quantization"]
    assert (kept["bits"], kept["group_size"]) == (4, 64)
    changed = {f"model.layers.{i}.{name}" for i in range(3) for name in ("self_attn.o_proj", "mlp.down_proj")}
    assert {name for name in kept if name.startswith("model.")} == changed
    assert kept["model.layers.0.mlp.down_proj"] == {"bits": 8, "group_size": 64, "mode": "affine"}


def test_a_matrix_that_is_changed_has_8_bits_whatever_its_mode_was(tmp_path: Path) -> None:
    from mlx_lm.utils import quantize_model  # after the backend

    wide = saved(tmp_path / "wide", "llama", hidden_size=64, intermediate_size=160)
    source, store = tmp_path / "four", tmp_path / "store"
    network, config = stored_network(wide)
    network, config = quantize_model(network, config, group_size=32, bits=4, mode="mxfp4")
    for file in wide.iterdir():
        (source / file.name).parent.mkdir(exist_ok=True)
        (source / file.name).write_bytes(file.read_bytes())
    write_weights(source, named_weights(network), {})
    write_config(source, config)
    with open_model(str(source)) as model:
        vectors = keep_vectors(model, store)
    baked = bake(str(source), TAKEN_OUT, tmp_path / "less", store=store)
    found = plain(tmp_path / "logits.npz", str(baked.folder))[str(baked.folder)]
    removed = taken_out(source, vectors["pull"].direction, blocks=3)
    assert np.abs(found - removed).max() < 0.1 * baked.difference.effect
    kept = json.loads((baked.folder / "config.json").read_text())["quantization"]
    assert kept["mode"] == "mxfp4"
    groups = {kept[f"model.layers.0.{name}"]["group_size"] for name in ("self_attn.o_proj", "mlp.down_proj")}
    assert groups == {64, 32}  # 64 inputs, and 160


def test_a_baked_folder_has_no_path_of_this_machine_and_its_readme_says_what_is_not_measured(
    tiny: Model, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    keep_vectors(tiny, store)
    options = ["-s", TAKEN_OUT, "--adapter", "--no-measure", "--out", str(tmp_path / "adapter"), "--store", str(store)]
    done = CliRunner().invoke(app, [tiny.name, *options])
    assert done.exit_code == 0, done.exception
    assert "not measured (--no-measure)" in done.stdout
    assert "has no held-out items" not in done.stdout
    assert f"--model {tiny.folder} --adapter-path {tmp_path / 'adapter'}" in done.stdout
    said = (tmp_path / "adapter" / "README.md").read_text()
    for file in (tmp_path / "adapter").iterdir():
        assert str(tiny.folder.parent).encode() not in file.read_bytes(), file.name
    about = json.loads((tmp_path / "adapter" / "steerflow.json").read_text())
    assert about["model"]["name"] == tiny.folder.name
    assert "--model MODEL_FOLDER --adapter-path THIS_FOLDER" in said
    assert f"`MODEL_FOLDER` is where `{tiny.folder.name}` lies" in said
    assert "Its effect and damage in this form have not been measured." in said
    found = bake(tiny.name, TAKEN_OUT, tmp_path / "again", store=store, adapter=True)
    named = {**found.provenance, "model": {**found.provenance["model"], "name": "someone/some-model"}}
    said = card(dataclasses.replace(found, provenance=named, base="someone/some-model"))
    whole = bake(tiny.name, TAKEN_OUT, tmp_path / "whole", store=store, measure=False)
    for file in whole.folder.iterdir():
        assert str(tiny.folder.parent).encode() not in file.read_bytes(), file.name
    assert "base_model: someone/some-model\n" in said
    assert "--model someone/some-model --adapter-path THIS_FOLDER" in said


def test_every_architecture_that_takes_it_holds_it(tmp_path: Path) -> None:
    """Experts, norms behind projections, attention beside the MLP, a folder of another tool's names."""
    for shape in ("qwen3_moe", "olmo2", "gpt_neox", "gpt2", "cohere2", "granite"):
        source, store = saved(tmp_path / shape, shape), tmp_path / f"{shape}-store"
        with open_model(str(source)) as model:
            keep_vectors(model, store)
        both = bake(str(source), f"{TAKEN_OUT}; {ADDED}", tmp_path / f"{shape}-both", store=store)
        assert both.difference.holds
        assert both.difference.largest < 1e-3 < both.difference.effect


def test_effect_and_damage_are_those_of_the_form_that_was_baked(tmp_path: Path) -> None:
    source, store = toy.save_toy_model(tmp_path / "toy"), Store(tmp_path / "store")
    store.append("concepts", [concept_row(toy.CONCEPT)])
    with open_model(str(source)) as model:
        _, along = toy.axes()
        key = "ab" * 10
        identity = model.identity
        direction = along.astype(np.float32)
        vector = Vector(
            key, identity.model_id, toy.CONCEPT.concept_id, "made", 1, 10.0, direction=direction, architecture="llama"
        )
        save_vector(model, vector, "loud", store=tmp_path / "store")
        setup = Setup(model, toy.CONCEPT)
        steered = Cell(identity.model_id, toy.CONCEPT.concept_id, parse(f"2*{key} @all"), (vector,))
        items = toy.CONCEPT.items_in("test")
        untouched = Cell(identity.model_id, toy.CONCEPT.concept_id)
        moved = [np.diff(propensity(setup, item, [untouched, steered]))[0] for item in items]
        texts = answered("test", ScoresSpec(answers=12))
        answers = neutral_answers(model, store, toy.CONCEPT, texts, GenerationsSpec(), setup.work)
        damages = [damage(setup, answer, [steered])[0] for answer in answers]
    found = bake(str(source), "2*loud @all", tmp_path / "out", store=tmp_path / "store")
    assert found.measured is not None
    assert found.measured.n == len(items)
    assert found.measured.effect == pytest.approx(np.mean(moved), abs=1e-4)
    assert found.measured.effect_low <= found.measured.effect <= found.measured.effect_high
    assert found.measured.effect > 1
    assert found.measured.kl > 0.01
    assert found.measured.damage == pytest.approx(np.mean(damages), abs=1e-5)
    assert found.measured.damage > 0.05
    assert found.measured.perplexity_ratio is not None
    assert found.measured.perplexity_ratio < 0.9  # capitals alone are what the toy expects
    assert found.runtime is not None
    for name in ("effect", "damage", "kl", "perplexity_ratio"):  # the texts are the same, too
        assert getattr(found.measured, name) == pytest.approx(getattr(found.runtime, name), rel=5e-3), name
    assert [row["form"] for row in found.rows] == ["at run time", "baked"]
    said = (tmp_path / "out" / "README.md").read_text()
    for value in (found.measured.effect, found.measured.damage, found.measured.perplexity_ratio):
        assert f"{value:.3f}" in said
    assert "2*loud @all" in said
    about = json.loads((tmp_path / "out" / "steerflow.json").read_text())
    assert about["vectors"][0]["concept"] == "capitals"
    assert about["model"]["model_id"] == identity.model_id
    assert json.loads(_metadata(tmp_path / "out")["steerflow"]) == about


def _metadata(folder: Path) -> dict[str, str]:
    _, found = mx.load(str(folder / "model.safetensors"), return_metadata=True)
    return dict(found)


def test_mlx_lm_generates_from_it_in_a_process_without_steerflow(tiny: Model, tmp_path: Path) -> None:
    keep_vectors(tiny, tmp_path / "store")
    bake(tiny.name, ADDED, tmp_path / "out", store=tmp_path / "store")
    script = Path(__file__).with_name("plain_mlx_lm.py")
    command = [sys.executable, "-P", str(script), "generate", "--model", str(tmp_path / "out"), "--prompt", "Hello"]
    done = subprocess.run(
        [*command, "--max-tokens", "5"], check=True, cwd=tmp_path, timeout=300, capture_output=True, text=True
    )
    assert "Generation: 5 tokens" in done.stdout


@pytest.mark.real
def test_the_real_model_is_baked(real: Model, tmp_path: Path) -> None:
    store, places = tmp_path / "store", []
    vectors = keep_vectors(real, store)
    wanted = {"added": ["-s", "2*push @all"], "adapter": ["-s", "!pull @all @layers(0..29)", "--adapter"]}
    for name, options in wanted.items():
        out = tmp_path / name
        done = CliRunner().invoke(app, [real.name, *options, "--out", str(out), "--store", str(store), "--json"])
        assert done.exit_code == 0, done.exception
        far = json.loads(done.stdout)["difference"]
        assert far["largest"] < 1e-4 * far["top"] < 0.1 * far["effect"]
        places.append(str(out) if name == "added" else f"{real.folder}@{out}")
    found = plain(tmp_path / "logits.npz", *places, str(real.folder))
    rounding = np.abs(found[str(real.folder)] - runtime(real)).max()  # of the untouched model, in the two processes
    added = runtime(real, Intervention((Change(1, vectors["push"].direction, 2.0),)))
    removed = taken_out(real.folder, vectors["pull"].direction, blocks=30)
    for place, expected in zip(places, (added, removed), strict=True):
        assert np.abs(found[place] - expected).max() < min(3 * rounding, 1e-4 * np.abs(expected).max())
