"""Memory: one budget bounds every batch, what is foreseen is what is held, and no result depends on it."""

import gc
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from steering_core.activations.capture import Capture, Reading, cost_here, peak_of_all
from steering_core.activations.extract import extract
from steering_core.activations.passes import plan_passes
from steering_core.backend.mlx import mx, on_cpu
from steering_core.cli import plan
from steering_core.concepts import Concept
from steering_core.engine.sampling import Request, sample, stream
from steering_core.engine.teacher_forcing import Scored, divergences, log_probabilities
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import ModelTooLarge, SettingError, SpecError
from steering_core.foundation.sizes import parse_size
from steering_core.foundation.validation import checked
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model, memory, open_model
from steering_core.pipeline.discover import run
from steering_core.pipeline.rows import store_pairs
from steering_core.prompts import Prompt
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick
from tests.tiny import save_tiny_model

MIB = 1 << 20
PROPORTIONS: dict[str, Any] = {  # grouped heads, head_dim other than width / heads, a large vocabulary
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "intermediate_size": 448,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
NEAR = 1.3  # what is foreseen may be off by


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "proportions", PROPORTIONS)


@pytest.fixture
def model(folder: Path) -> Iterator[Model]:
    gc.collect()  # networks of other tests are held in cycles
    with open_model(str(folder)) as opened:
        yield opened


def with_room(model: Model, size: int) -> memory.Budget:
    """The model's budget, with `size` bytes beside what is held now."""
    budget = model.memory  # loads the weights
    budget.limit = mx.get_active_memory() + size
    return budget


def held(do: Callable[[], Any]) -> int:
    """Bytes that something takes at its peak, beside what is held before."""
    gc.collect()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    do()
    return mx.get_peak_memory() - before


def drawn(rows: int, length: int) -> list[tuple[int, ...]]:
    numbers = np.random.default_rng(rows).integers(4, 250, (rows, length))
    return [tuple(row) for row in numbers.tolist()]


def prompts(model: Model, rows: int, length: int) -> list[Prompt]:
    return [Prompt(row, "", length, model.identity.tokenizer_id) for row in drawn(rows, length)]


def push(model: Model, layer: int, phase: str = "generation") -> Intervention:
    direction = np.random.default_rng(layer).standard_normal(model.identity.width).astype(np.float32)
    return Intervention((Change(layer, direction, 1.0, "add", Where(phase)),))


@pytest.mark.parametrize(("rows", "length"), [(16, 64), (4, 256), (2, 700)])
@pytest.mark.parametrize("layers", [(0, 1, 2, 3, 4, 5), (5,)])
@pytest.mark.parametrize("position", ["mean", "all"])
def test_a_capture_takes_what_is_foreseen(
    model: Model, rows: int, length: int, layers: tuple[int, ...], position: str
) -> None:
    reading, asked = Reading(layers, position), prompts(model, rows, length)
    with_room(model, 1 << 40)
    passes = plan_passes([p.tokens for p in asked], cost_here(model, reading))
    foreseen = peak_of_all(model, reading, passes)
    # the most of three: on a busy machine MLX is not always as far ahead of itself as it may be
    found = max(held(lambda: list(Capture(model, asked, reading, Work()).run(passes))) for _ in range(3))
    assert foreseen / NEAR <= found <= foreseen * NEAR


@pytest.mark.parametrize("size", [8 * MIB, 24 * MIB])
@pytest.mark.parametrize("phase", ["generation", "all"])
def test_scoring_takes_what_is_foreseen(model: Model, phase: str, size: int) -> None:
    with_room(model, size)
    stem, asked = drawn(1, 40)[0], []
    for i in range(200):
        asked.append(Scored((*stem, 9 + i % 50, 7, 8), 40, push(model, i % 6, phase)))
    found = held(lambda: log_probabilities(model, asked, Work()))
    assert size / 2 / NEAR <= found <= size * NEAR


@pytest.mark.parametrize("rows", [8, 64])
def test_sampling_takes_what_is_foreseen(model: Model, rows: int) -> None:
    with_room(model, 1 << 40)
    asked = [Request(t) for t in drawn(rows, 30)]
    foreseen = model.memory.sampled_bytes(rows, 40)
    found = held(lambda: list(sample(model, asked, 10, 0.7, Work())))
    assert foreseen / NEAR <= found <= foreseen * NEAR


def captured(model: Model, rows: int = 40, length: int = 50) -> dict[int, np.ndarray]:
    asked, reading = prompts(model, rows, length), Reading((1, 4), "mean")
    passes = plan_passes([p.tokens for p in asked], cost_here(model, reading))
    found: dict[int, np.ndarray] = {}
    for one in Capture(model, asked, reading, Work()).run(passes):
        found |= dict(zip(one.rows, one.values, strict=True))
    return found


@pytest.mark.parametrize("size", [0, MIB, 8 * MIB])
def test_no_activation_score_or_text_depends_on_the_memory(model: Model, size: int) -> None:
    def everything() -> tuple[Any, ...]:
        scored = [Scored((*drawn(1, 40)[0], 9, i), 40, push(model, i % 6, "all")) for i in range(30)]
        asked = [Request(t, push(model, i % 6), seed=i) for i, t in enumerate(drawn(30, 40))]
        texts = dict(sample(model, asked, 6, 0.0, Work()))
        with stream(model, asked, 3) as tokens:
            streamed = {(token.row, token.token) for token in tokens}
        kl = divergences(model, drawn(1, 40)[0], [s.intervention for s in scored], Work())
        return (
            captured(model),
            log_probabilities(model, scored, Work()),
            kl,
            [texts[i].tokens for i in range(30)],
            streamed,
        )

    roomy = everything()
    with_room(model, size)
    tight = everything()
    for i, values in roomy[0].items():
        np.testing.assert_allclose(tight[0][i], values, atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(tight[1], roomy[1], atol=2e-4)
    np.testing.assert_allclose(tight[2], roomy[2], atol=2e-4)
    assert tight[3:] == roomy[3:]


def test_a_long_prompt_is_read_in_pieces_where_a_pass_of_it_does_not_fit(model: Model) -> None:
    roomy = captured(model, rows=1, length=900)
    whole = held(lambda: captured(model, rows=1, length=900))
    with_room(model, 12 * MIB)
    assert held(lambda: captured(model, rows=1, length=900)) < 12 * MIB * NEAR < whole / 3
    np.testing.assert_allclose(captured(model, rows=1, length=900)[0], roomy[0], atol=2e-4, rtol=1e-4)


def test_passes_are_as_many_as_the_room_asks_for(model: Model) -> None:
    asked, reading = [p.tokens for p in prompts(model, 64, 64)], Reading((0,), "mean")
    with_room(model, 1 << 40)
    few = len(plan_passes(asked, cost_here(model, reading)))
    with_room(model, 8 * MIB)
    assert len(plan_passes(asked, cost_here(model, reading))) >= 4 * few


def test_what_was_seen_corrects_what_is_foreseen(model: Model) -> None:
    budget = with_room(model, 64 * MIB)
    before = budget.room("read")
    with budget.learning("read", 10 * MIB) as watched:
        held_here = mx.zeros(20 * MIB // 4)
        mx.eval(held_here)
    assert watched
    del held_here
    assert budget.room("read") == pytest.approx(before / 2, rel=0.01)
    with budget.learning("read", 10 * MIB) as watched:
        assert not watched


@pytest.mark.parametrize(
    ("text", "size"), [("12GiB", 12 << 30), ("900 MB", 900 << 20), ("8e9", 8 * 10**9), ("1.5g", 3 << 29)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, "here") == size


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", "12 apples", "1e30GB"])
def test_what_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.VARIABLE, text or " ")
    with pytest.raises(SettingError, match=memory.VARIABLE):
        memory.limit()
    with pytest.raises(SpecError, match="memory"):
        checked(Spec, {"models": ["m"], "concepts": ["c"], "memory": text}, "the spec", SpecError)


def test_the_smaller_of_two_limits_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    assert memory.limit() == memory.recommended() > 1 << 30
    monkeypatch.setenv(memory.VARIABLE, "3GiB")
    assert (memory.limit(), memory.limit(1 << 30), memory.limit(4 << 30)) == (3 << 30, 1 << 30, 3 << 30)


def large_folder(folder: Path, shape: dict[str, Any], rows: int) -> Path:
    """A model whose one large tensor is its embedding, in bfloat16: a file of that size without contents."""
    save_tiny_model(folder, shape)
    tensors = dict(mx.load(str(folder / "model.safetensors")))
    tensors.pop("model.embed_tokens.weight")
    mx.save_safetensors(str(folder / "model-1.safetensors"), tensors)
    (folder / "model.safetensors").unlink()
    size = rows * shape["hidden_size"] * 2
    header = {
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [rows, shape["hidden_size"]], "data_offsets": [0, size]}
    }
    text = json.dumps(header).encode()
    with (folder / "model-2.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": rows}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    folder = large_folder(tmp_path / "large", {"hidden_size": 64, "vocab_size": 260}, 1 << 28)  # 32 GiB, 64 as float32
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    with pytest.raises(ModelTooLarge) as raised:
        open_model(str(folder), memory_limit=8 << 30)
    assert mx.get_peak_memory() - before < 64 << 20
    assert "needs 64.0 GiB" in str(raised.value) if on_cpu() else "32.0 GiB"
    assert "8.0 GiB may be used" in str(raised.value)
    assert "would fit" in str(raised.value)


def test_what_a_conversion_takes_is_told_by_arithmetic(tmp_path: Path, model: Model) -> None:
    from mlx import nn

    for bits in (8, 4):
        folder = save_tiny_model(tmp_path / str(bits), PROPORTIONS)
        with open_model(str(folder)) as opened:
            network = opened.network
            network.set_dtype(mx.bfloat16)
            foretold = memory.quantised_bytes(network, bits)
            nn.quantize(network, 64, bits)
            assert memory.weights_bytes(network) == foretold


def test_a_run_under_a_tight_budget_says_the_same(
    tiny_folder: Path, concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "loud.yaml"
    path.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(tiny_folder),),
        concepts=(str(path),),
        generations={"layers": (1, 2), "doses": (0.5, 1.0), "prompts": 2, "max_tokens": 4},
        **quick.SPEC,
    )
    roomy = run(spec, Store(tmp_path / "roomy"))
    tight_spec = spec.model_copy(update={"memory": f"{mx.get_active_memory() + (1 << 20)}"})
    assert tight_spec.key == spec.key
    tight = run(tight_spec, Store(tmp_path / "tight"))
    assert tight["stages"]["activations"]["forward_passes"] > roomy["stages"]["activations"]["forward_passes"]
    (a,), (b,) = roomy["recommendations"], tight["recommendations"]
    for key in ("verdict", "method", "layer", "n_test", "model", "concept"):
        assert a.get(key) == b.get(key)
    for key, value in a.items():
        if isinstance(value, float):
            assert b[key] == pytest.approx(value, abs=1e-3, rel=1e-3), key


def test_the_plan_says_the_peak_that_the_run_then_has(folder: Path, concept: Concept, tmp_path: Path) -> None:
    (tmp_path / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 2, "max_tokens": 4}
    text = {"models": [str(folder)], "concepts": [str(tmp_path / "loud.yaml")], "generations": grid}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(text))
    command = [str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "store"), "--format", "json"]
    (row,) = json.loads(CliRunner().invoke(plan.app, command).stdout)
    with open_model(str(folder)) as opened:
        weights = opened.memory.footprint.weights
        asked = store_pairs(Store(tmp_path / "other"), opened, [concept])
        took = held(lambda: extract(opened, Store(tmp_path / "store"), asked, range(6), "response"))
    assert weights + took <= row["peak_memory"] * NEAR
    assert row["peak_memory"] < weights + 64 * (256 * 3072 + 2 * opened_logits(folder)) * NEAR


def opened_logits(folder: Path) -> int:
    """Bytes of one place's logits, twice."""
    return 2 * 4 * int(json.loads((folder / "config.json").read_text())["vocab_size"])
