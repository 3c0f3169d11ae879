"""Activations: shared prefixes, batches and resumed extractions give what one plain pass per prompt gives."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.activations import capture as capture_module
from steering_core.activations.capture import Capture, Reading
from steering_core.activations.extract import extract
from steering_core.activations.passes import Cost, plan_passes, total
from steering_core.activations.positions import tokens_read
from steering_core.activations.sites import SITES
from steering_core.backend.mlx import mx
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import (
    Diverged,
    LayerNotFound,
    PositionUnknown,
    PromptError,
    SiteNotFound,
    SteerflowError,
)
from steering_core.models import Model, open_model
from steering_core.prompts import Prompt
from steering_core.store import Store
from tests.shards import SPECIAL, prompts_that_share
from tests.tiny import save_tiny_model

LAYERS = (0, 1, 2, 3)
SHARED = Cost(tokens=64, cached=400, overhead=1)
MIXED = Cost(tokens=64, cached=400, overhead=1, mixed=True)
ALONE = Cost(tokens=64, overhead=10**6)


def plain(model: Model, prompt: Prompt, site: str = "resid_post") -> np.ndarray:
    """The site's stream from one plain pass over one prompt, block by block, (L, T, D)."""
    seen: dict[int, mx.array] = {}

    def look(layer: int, h: mx.array) -> mx.array:
        seen[layer] = h
        return h

    n = model.identity.n_layers
    with model.taps.applied({layer: (lambda h, layer=layer: look(layer, h)) for layer in range(n)}):
        model.network(mx.array([prompt.tokens]))
    after = np.stack([np.array(seen[layer].astype(mx.float32))[0] for layer in range(n)])
    if site == "resid_pre":
        first = np.array(model.network.model.embed_tokens(mx.array([prompt.tokens])))
        return np.concatenate([first, after[:-1]])
    return after


def found(model: Model, prompts: list[Prompt], reading: Reading, cost: Cost) -> dict[int, np.ndarray]:
    capture = Capture(model, prompts, reading, Work())
    captured = list(capture.run(plan_passes([p.tokens for p in prompts], cost)))
    if reading.position == "all":
        return {c.rows[0]: c.values for c in captured}
    return {row: values for c in captured for row, values in zip(c.rows, c.values, strict=True)}


@pytest.fixture
def prompts(tiny: Model) -> list[Prompt]:
    return prompts_that_share(tiny.identity.tokenizer_id)


@pytest.mark.parametrize("cost", [SHARED, MIXED, ALONE], ids=["shared", "mixed", "alone"])
@pytest.mark.parametrize("position", ["last", "mean", "response", "all", "span:0:3", "span:-2:"])
def test_every_position_is_that_of_a_plain_pass(tiny: Model, prompts: list[Prompt], position: str, cost: Cost) -> None:
    prompts = [p for p in prompts if len(p.tokens) > 1]
    values = found(tiny, prompts, Reading(LAYERS, position), cost)
    special = frozenset(tiny.tokenizer.all_special_ids)
    assert SPECIAL in special
    assert sorted(values) == list(range(len(prompts)))
    for i, prompt in enumerate(prompts):
        stream = plain(tiny, prompt)  # (L, T, D)
        if position == "all":
            expected = stream.swapaxes(0, 1)
        else:
            n = len(prompt.tokens)
            wanted = {
                "last": [n - 1],
                "mean": [t for t in range(1, n) if prompt.tokens[t] not in special] or [n - 1],
                "response": list(range(prompt.response_start, n))
                or [t for t in range(1, n) if prompt.tokens[t] not in special],
                "span:0:3": list(range(n))[0:3],
                "span:-2:": list(range(n))[-2:],
            }[position]
            expected = stream[:, wanted].mean(axis=1)
        np.testing.assert_allclose(values[i], expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("position", ["mean", "all"])
def test_a_gpus_thread_hands_out_the_same_in_the_same_order(
    tiny: Model, prompts: list[Prompt], position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a GPU another thread looks at what passes found; here the one that ran them does."""
    at_once = found(tiny, prompts, Reading(LAYERS, position), SHARED)
    monkeypatch.setattr(capture_module, "on_cpu", lambda: False)
    in_thread = found(tiny, prompts, Reading(LAYERS, position), SHARED)
    assert list(in_thread) == list(at_once)
    for row, values in at_once.items():
        np.testing.assert_array_equal(in_thread[row], values)


@pytest.mark.parametrize("site", SITES)
def test_every_site(tiny: Model, prompts: list[Prompt], site: str) -> None:
    shared = found(tiny, prompts, Reading(LAYERS, "last", site), SHARED)
    alone = found(tiny, prompts, Reading(LAYERS, "last", site), ALONE)
    for i in alone:
        np.testing.assert_allclose(shared[i], alone[i], atol=2e-4, rtol=1e-3)
        if site.startswith("resid"):
            np.testing.assert_allclose(alone[i], plain(tiny, prompts[i], site)[:, -1], atol=2e-4, rtol=1e-3)


def test_a_block_adds_its_attention_and_mlp_to_the_stream(tiny: Model, prompts: list[Prompt]) -> None:
    before, attention, mlp, after = (
        found(tiny, prompts, Reading(LAYERS, "last", site), SHARED)
        for site in ("resid_pre", "attn_out", "mlp_out", "resid_post")
    )
    for i in range(len(prompts)):
        np.testing.assert_allclose(before[i] + attention[i] + mlp[i], after[i], atol=2e-4, rtol=1e-3)


def test_watching_leaves_the_network_as_it_was(tiny: Model, prompts: list[Prompt]) -> None:
    classes = [type(module) for _, module in tiny.network.named_modules()]
    found(tiny, prompts, Reading(LAYERS, "last", "mlp_out"), SHARED)
    assert [type(module) for _, module in tiny.network.named_modules()] == classes


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2"},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 8,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "sliding": {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2,
                "query_pre_attn_scalar": 8},
    "mamba": {"model_type": "mamba", "state_size": 8, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True,
              "time_step_rank": 4, "intermediate_size": 64},
}  # fmt: skip


@pytest.fixture(params=list(ARCHITECTURES))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model]:
    with open_model(str(save_tiny_model(tmp_path / "model", ARCHITECTURES[request.param]))) as model:
        yield model


def test_other_architectures_share_prefixes_exactly(other: Model) -> None:
    prompts = prompts_that_share(other.identity.tokenizer_id, n=12)
    values = found(other, prompts, Reading(LAYERS, "mean"), SHARED)
    special = frozenset(other.tokenizer.all_special_ids)
    for i, prompt in enumerate(prompts):
        expected = plain(other, prompt)[:, tokens_read(prompt, "mean", special)].mean(axis=1)
        np.testing.assert_allclose(values[i], expected, atol=1e-3, rtol=1e-2)


# -- extraction into a store ------------------------------------------------------------------------------------------


def rows(store: Store, **where: Any) -> dict[tuple[str, int], np.ndarray]:
    clause = " AND ".join(f"{name} = ?" for name in where) or "true"
    found = store.rows(f"SELECT * FROM raw.activations WHERE {clause}", list(where.values()))
    keyed = {(row["prompt_id"], row["layer"]): np.array(row["activation"], np.float32) for row in found}
    assert len(keyed) == len(found), "a row is there twice"
    return keyed


def counts(did: Done) -> tuple[int, int]:
    return did.work.computed, did.work.reused


def test_only_what_is_missing_is_run(tiny: Model, store: Store, prompts: list[Prompt]) -> None:
    few, n = prompts[3:], len(prompts)
    assert counts(extract(tiny, store, few, [0, 2], "last")) == (n - 3, 0)
    assert counts(extract(tiny, store, prompts, [0, 2], "last")) == (3, n - 3)
    more = extract(tiny, store, prompts, [0, 1, 2], "last")
    assert counts(more) == (n, 0)
    assert counts(extract(tiny, store, prompts, [2, 1, 0], "last")) == (0, n)
    assert extract(tiny, store, prompts, [0], "last").work.forward_passes == 0
    assert len(rows(store)) == 3 * n
    assert counts(extract(tiny, store, prompts, [0], "mean")) == (n, 0)
    assert counts(extract(tiny, store, prompts, [0], "last", site="mlp_out")) == (n, 0)


def test_rows_hold_what_a_plain_pass_gives(tiny: Model, store: Store, prompts: list[Prompt]) -> None:
    extract(tiny, store, prompts[::2], [1, 3], "last")
    extract(tiny, store, prompts, [1, 3], "last")
    held = rows(store)
    for prompt in prompts:
        stream = plain(tiny, prompt)
        for layer in (1, 3):
            np.testing.assert_allclose(held[prompt.prompt_id, layer], stream[layer, -1], atol=2e-4, rtol=1e-3)


def test_a_row_says_how_many_tokens_it_read_and_its_residual_norm(tiny: Model, store: Store) -> None:
    prompt = Prompt((SPECIAL, 50, 51, SPECIAL, 52), "x", 5, tiny.identity.tokenizer_id)
    extract(tiny, store, [prompt], [2], "mean")
    (row,) = store.rows("SELECT * FROM raw.activations")
    assert row["n_read"] == 3
    assert row["token"] is None
    norms = np.linalg.norm(plain(tiny, prompt)[2], axis=-1)
    assert row["residual_norm"] == pytest.approx(norms[1:].mean(), rel=1e-4)


def test_a_row_a_token(tiny: Model, store: Store, prompts: list[Prompt]) -> None:
    assert counts(extract(tiny, store, prompts[:5], [1, 2], "all")) == (5, 0)
    assert counts(extract(tiny, store, prompts[:5], [1, 2], "all")) == (0, 5)
    for prompt in prompts[:5]:
        held = store.rows(
            "SELECT token, activation FROM raw.activations WHERE prompt_id = ? AND layer = 2 ORDER BY token",
            [prompt.prompt_id],
        )
        assert [row["token"] for row in held] == list(range(len(prompt.tokens)))
        np.testing.assert_allclose([row["activation"] for row in held], plain(tiny, prompt)[2], atol=2e-4, rtol=1e-3)


def test_progress_counts_prompts(tiny: Model, store: Store, prompts: list[Prompt]) -> None:
    heard: list[tuple[int, int]] = []
    extract(tiny, store, prompts, [0], "last", lambda done, todo: heard.append((done, todo)))
    assert heard[-1] == (len(prompts), len(prompts))


def test_work_is_what_the_passes_say(tiny: Model, prompts: list[Prompt]) -> None:
    passes = plan_passes([p.tokens for p in prompts], SHARED)
    capture = Capture(tiny, prompts, Reading((0,), "last"), Work())
    assert len(list(capture.run(passes))) > 1
    assert (capture.work.forward_passes, capture.work.tokens) == total(passes)


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (LayerNotFound, {"layers": [0, 9]}),
        (SiteNotFound, {"site": "resid_mid"}),
        (PositionUnknown, {"position": "first"}),
        (PositionUnknown, {"position": "span:a:b"}),
        (PromptError, {"position": "span:90:99"}),
        (PromptError, {"prompts": [()]}),
        (PromptError, {"prompts": [(9,) * 600]}),
    ],
)
def test_a_wrong_question_is_refused_by_name(
    tiny: Model, store: Store, error: type[SteerflowError], change: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"layers": [0], "position": "last", "prompts": [(7, 8)], **change}
    identity = tiny.identity.tokenizer_id
    prompts = [Prompt(tokens, "text", len(tokens), identity) for tokens in asked.pop("prompts")]
    with pytest.raises(error):
        extract(tiny, store, prompts, **asked)
    assert rows(store) == {}


def test_a_prompt_of_another_tokenizer_is_refused(tiny: Model, store: Store) -> None:
    with pytest.raises(PromptError, match="another model"):
        extract(tiny, store, [Prompt((7, 8), "text", 2, "other")], [0], "last")


def test_an_architecture_without_a_part_says_which_it_has(tmp_path: Path, store: Store) -> None:
    with open_model(str(save_tiny_model(tmp_path / "model", ARCHITECTURES["mamba"]))) as model:
        prompt = Prompt((7, 8), "text", 2, model.identity.tokenizer_id)
        with pytest.raises(SiteNotFound, match="mlp_out at layer 0: its block's parts are mixer"):
            extract(model, store, [prompt], [0], "last", site="mlp_out")


@pytest.mark.parametrize("name", ["exaone", "dbrx", "llama"])
@pytest.mark.parametrize("site", ["attn_out", "mlp_out"])
def test_parts_within_parts_are_heard_in_every_block(tmp_path: Path, store: Store, name: str, site: str) -> None:
    configuration = json.loads(Path(__file__).with_name("architectures.json").read_text())[name]
    untied = {**configuration, "tie_word_embeddings": False}
    with open_model(str(save_tiny_model(tmp_path / "model", untied))) as model:
        prompt, layers = Prompt((7, 8, 9), "text", 3, model.identity.tokenizer_id), range(model.identity.n_layers)
        extract(model, store, [prompt], layers, "last", site=site)  # TapNotFired where a part is never called
        assert len(rows(store)) == len(layers)


def test_inf_and_nan_are_refused_with_layer_and_prompt(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(str(save_tiny_model(tmp_path / "model"))) as model:
        block = model.network.layers[2]
        block.mlp.down_proj.weight = block.mlp.down_proj.weight * float("inf")
        prompts = prompts_that_share(model.identity.tokenizer_id)
        with pytest.raises(Diverged, match="layer 2 for the prompt"):
            extract(model, store, prompts, LAYERS, "last")
        monkeypatch.setattr(capture_module, "on_cpu", lambda: False)  # and so does a GPU's thread
        with pytest.raises(Diverged, match="layer 2 for the prompt"):
            extract(model, store, prompts, LAYERS, "last")
        assert rows(store) == {}
        assert counts(extract(model, store, prompts, [0, 1], "last")) == (len(prompts), 0)


def test_a_prompt_keeps_its_answer_apart(tiny: Model, store: Store) -> None:
    """The same tokens with another answer's start are another prompt."""
    one = Prompt((7, 8, 9, 10), "x", 2, tiny.identity.tokenizer_id)
    two = dataclasses.replace(one, response_start=3)
    extract(tiny, store, [one, two], [0], "response")
    held, stream = rows(store), plain(tiny, one)[0]
    np.testing.assert_allclose(held[one.prompt_id, 0], stream[2:].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(held[two.prompt_id, 0], stream[3], atol=1e-4)
