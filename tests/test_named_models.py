"""Gemma 2, Llama 3.2, Qwen2.5, Gemma 3, Qwen3 and GPT-2 by name, in full precision and quantised to 8 and 4 bits.

Tiny random networks with what sets each family apart: softcapped logits and two norms around a part (Gemma 2), scaled
rotary positions (Llama 3.2), biases and `layers` that is a fresh slice (Qwen2.5), local and global windows (Gemma 3),
norms of queries and keys (Qwen3), learned positions and no rotary ones (GPT-2); and with the family's proportions: as
many heads a key-value head, and heads as wide as they are beside the model's width.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.activations.capture import Capture, Reading
from steering_core.activations.passes import Cost, plan_passes
from steering_core.backend.mlx import mx, nn
from steering_core.engine.sampling import Request, sample, stream
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model, open_model
from steering_core.models.mlx_lm import quantise_folder
from steering_core.prompts import Prompt
from tests.tiny import save_tiny_model

COMMON = {"hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 128, "vocab_size": 260}
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma-2": {
        **COMMON,
        "model_type": "gemma2",
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 16,
        "rms_norm_eps": 1e-6,
    },
    "llama-3.2": {
        **COMMON,
        "model_type": "llama",
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "max_position_embeddings": 131072,
    },
    "qwen2.5": {
        **COMMON,
        "model_type": "qwen2",
        "hidden_size": 448,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "rope_theta": 1000000.0,
        "max_position_embeddings": 32768,
    },
    "gemma-3": {
        **COMMON,
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 16,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
    },
    "qwen3": {
        **COMMON,
        "model_type": "qwen3",
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "rope_theta": 1000000.0,
        "max_position_embeddings": 40960,
    },
    "gpt-2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 4,
        "n_ctx": 256,
        "n_positions": 256,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": 260,
        "num_key_value_heads": 4,
    },
}
TOKENS = tuple(range(10, 30))  # longer than the local window
LAYER = 2


@pytest.fixture(scope="module", params=[f"{family}, {bits} bits" for family in FAMILIES for bits in (32, 8, 4)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    family, bits = request.param.removesuffix(" bits").split(", ")
    folder = save_tiny_model(tmp_path_factory.mktemp("named") / family, FAMILIES[family])
    if bits != "32":
        quantise_folder(folder, folder.with_name(f"{family}-{bits}bit"), int(bits))
        folder = folder.with_name(f"{family}-{bits}bit")
    with open_model(str(folder)) as opened:
        assert opened.identity.quantisation == ("none" if bits == "32" else f"{bits}-bit")
        yield opened


def direction(model: Model) -> np.ndarray:
    """A direction that grows with the width, as the streams of these random networks do."""
    width = model.identity.width
    return (width / 64 * np.random.default_rng(0).standard_normal(width)).astype(np.float32)


def change(model: Model, operation: str = "add", amount: float = 1.0, where: Where = Where("all")) -> Intervention:  # noqa: B008
    return Intervention((Change(LAYER, direction(model), amount, operation, where),))


def streams(model: Model, what: Intervention, tokens: tuple[int, ...] = TOKENS) -> np.ndarray:
    """Every layer's stream under an intervention, as the taps show it, (L, T, D)."""
    from steering_core.engine.steering import Steering
    from steering_core.models.taps import Edits, merged

    seen: dict[int, mx.array] = {}
    looks: Edits = {n: (lambda h, n=n: seen.setdefault(n, h)) for n in range(model.identity.n_layers)}
    edits = merged(Steering([what], [len(tokens)]).edits(0, len(tokens)), looks)
    with model.taps.applied(edits):
        mx.eval(model.network(mx.array([list(tokens)]), cache=model.new_cache()))
    return np.stack([np.array(seen[n].astype(mx.float32))[0] for n in sorted(seen)])


def test_an_intervention_does_what_it_says_and_nothing_else(model: Model) -> None:
    plain, v = streams(model, Intervention()), direction(model)
    np.testing.assert_array_equal(streams(model, change(model, amount=0.0)), plain)
    pushed = streams(model, change(model, amount=2.0))
    np.testing.assert_array_equal(pushed[:LAYER], plain[:LAYER])
    np.testing.assert_allclose(pushed[LAYER], plain[LAYER] + 2 * v, rtol=1e-5, atol=1e-4)
    assert np.abs(pushed[LAYER + 1 :] - plain[LAYER + 1 :]).max() > 1e-2
    late = streams(model, change(model, where=Where("all", positions=(12,))))
    np.testing.assert_allclose(late[:, :12], plain[:, :12], rtol=1e-5, atol=1e-5)
    assert np.abs(late[-1, 12:] - plain[-1, 12:]).max() > 1e-3
    gone = streams(model, change(model, "ablate"))
    assert np.abs(gone[LAYER] @ v).max() < 1e-3 * np.linalg.norm(v) * np.abs(plain[LAYER]).max()
    there_and_back = Intervention((*change(model).changes, *change(model, amount=-1.0).changes))
    np.testing.assert_allclose(streams(model, there_and_back), plain, rtol=1e-5, atol=1e-4)


def test_texts_do_not_depend_on_neighbours_nor_on_the_cache(model: Model) -> None:
    rows = [Intervention(), change(model, amount=3.0), change(model, "ablate"), change(model, amount=-3.0)]
    requests = [Request(TOKENS, row) for row in rows]
    together = dict(sample(model, requests, 8, 0.0, Work()))
    for i, request in enumerate(requests):
        ((_, alone),) = sample(model, [request], 8, 0.0, Work())
        assert alone.tokens == together[i].tokens
    with stream(model, requests[1:2], 8) as drawn:
        assert tuple(token.token for token in drawn) == together[1].tokens
    ids = list(TOKENS)  # the same text again, all of it read anew for every token
    for token in together[1].tokens:
        edits = streams(model, rows[1], tuple(ids))[-1, -1]
        assert int(np.argmax(head(model, edits))) == token
        ids.append(token)
    assert together[0].tokens != together[1].tokens


def head(model: Model, last: np.ndarray) -> np.ndarray:
    """Logits of a stream after the last block, (D,) -> (V,): put in its place by a tap."""
    with model.taps.applied({model.identity.n_layers - 1: lambda h: mx.array(last)[None, None].astype(h.dtype)}):
        logits = model.network(mx.array([[0]]), cache=model.new_cache())
    return np.array(logits.astype(mx.float32))[0, -1]


def test_what_is_captured_through_shared_prefixes_is_the_stream(model: Model) -> None:
    tokens = [TOKENS, (*TOKENS[:15], 99, 98), (*TOKENS[:15], 97), TOKENS[1:8], TOKENS[2:16]]
    prompts = [Prompt(t, "", len(t), model.identity.tokenizer_id) for t in tokens]
    layers = tuple(range(model.identity.n_layers))
    passes = plan_passes([p.tokens for p in prompts], Cost(overhead=1, mixed=True))
    assert len({p.length for p in passes}) < len(prompts), "no pass holds prompts of different lengths"
    assert sum(p.tokens for root in passes for p in root.walk()) < sum(map(len, tokens))
    found = {}
    for captured in Capture(model, prompts, Reading(layers, "last"), Work()).run(passes):
        found.update(zip(captured.rows, captured.values, strict=True))
    for i, prompt in enumerate(prompts):
        expected = streams(model, Intervention(), prompt.tokens)[:, -1]
        error = np.linalg.norm(found[i] - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert error.max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [8, 4])
def test_weights_that_stay_quantised_are_steered_as_well(family: str, bits: int, tmp_path: Path) -> None:
    """On Metal and CUDA a quantised model is run as it is stored."""
    with open_model(str(save_tiny_model(tmp_path / family, FAMILIES[family]))) as model:
        nn.quantize(model.network, group_size=64, bits=bits)
        assert any(isinstance(part, nn.QuantizedLinear) for part in model.network.modules())
        plain, pushed = streams(model, Intervention()), streams(model, change(model, amount=2.0))
        np.testing.assert_array_equal(pushed[:LAYER], plain[:LAYER])
        np.testing.assert_allclose(pushed[LAYER], plain[LAYER] + 2 * direction(model), rtol=1e-4, atol=1e-3)
        assert np.abs(pushed[-1] - plain[-1]).max() > 1e-2
