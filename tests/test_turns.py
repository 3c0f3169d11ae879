"""Steering that knows its turn: the template's own markers tell it, and outside of it nothing changes at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine import decoding, draws
from steering_core.engine.decoding import Decoding
from steering_core.engine.forward import checked, forward
from steering_core.engine.prefixes import Prefixes
from steering_core.engine.requests import Limits
from steering_core.engine.running import Running
from steering_core.engine.sampling import Request, sample
from steering_core.engine.steering import Steering
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Intervention
from steering_core.interventions.where import TURNS
from steering_core.models import Model, open_model
from tests.real_tokenizers import FAMILIES, save_family
from tests.steered import push
from tests.tiny import SPECIAL, byte_tokenizer, save_tiny_model

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How is Zug?"},
    {"role": "assistant", "content": "Sunny, I hope."},
    {"role": "user", "content": "And Bern?"},
]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model that has markers for thoughts and for calls of tools."""
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "thinker", {"vocab_size": 264})
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:], *MARKERS]})
    tokenizer.chat_template += "{# <tool_call> of a tool_call.name #}"
    tokenizer.save_pretrained(folder)
    return open_model(str(folder))


def in_phase(model: Model, tokens: tuple[int, ...], phase: str) -> str:
    """The text of the tokens at positions with that label."""
    labels = model.turns.labels(tokens)
    return model.text([token for token, label in zip(tokens, labels, strict=True) if label == phase])


def test_the_turns_of_a_real_template_are_found(real: Model) -> None:
    tokens = real.chat_template.opened(TALK)
    assert in_phase(real, tokens, "user") == "How is Zug?And Bern?"
    assert in_phase(real, tokens, "system") == "Be kind."
    assert in_phase(real, tokens, "response") == "\nSunny, I hope.\n"  # with what makes each answer's first token
    assert real.turns.labels(tokens)[-1] == "response"
    own = real.chat_template.opened(TALK[1:])
    assert in_phase(real, own, "system").startswith("You are a helpful AI assistant")
    whole = real.chat_template.rendered(TALK[:3], answered=True)
    closed = tuple(real.tokenizer.encode(whole, add_special_tokens=False))
    assert real.turns.labels(closed)[-1] is None


@pytest.mark.registry
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_turns_of_every_familys_template_are_found(tmp_path: Path, family: str) -> None:
    model = open_model(str(save_family(tmp_path / "model", FAMILIES[family])))
    tokens = model.chat_template.opened(TALK)
    said = in_phase(model, tokens, "user")
    for content in ("How is Zug?", "And Bern?"):
        assert content in said
    if model.chat_template.takes_system:
        assert "Be kind." in in_phase(model, tokens, "system")
    assert "Be kind." in said + in_phase(model, tokens, "system")
    assert len(said) < len("How is Zug?And Bern?Be kind.") + 12, said
    response = in_phase(model, tokens, "response")
    assert "Sunny, I hope." in response
    assert "Zug" not in response
    assert "kind" not in response
    assert model.turns.labels(tokens)[-1] == "response"


def test_thoughts_and_calls_are_told_apart_in_a_prompt(thinker: Model) -> None:
    answer = "<think>hm</think>So: <tool_call>{x}</tool_call>done"
    tokens = thinker.chat_template.opened([*TALK[1:2], {"role": "assistant", "content": answer}, *TALK[3:]])
    assert in_phase(thinker, tokens, "thinking") == "<think>hm"
    assert in_phase(thinker, tokens, "tool") == "<tool_call>{x}"
    assert in_phase(thinker, tokens, "response") == "<|assistant|></think>So: </tool_call>done<|assistant|>"


@pytest.mark.parametrize("phase", sorted(TURNS))
def test_logits_outside_a_phase_are_those_of_the_model_bit_for_bit(thinker: Model, phase: str) -> None:
    """Up to the phase's first position; within it and behind it they change."""
    answer = "a<think>hm</think>b<tool_call>{x}</tool_call>c"
    talk = [*TALK[:2], {"role": "assistant", "content": answer}, *TALK[3:]]
    tokens = thinker.chat_template.opened(talk)
    pushed = checked(thinker, tokens, push(thinker, 1, 3.0, phase))
    plain = np.array(forward(thinker, mx.array([tokens]), None, None, 0))[0]
    steering = Steering([pushed], [len(tokens)])
    steered = np.array(forward(thinker, mx.array([tokens]), None, steering, 0))[0]
    labels = thinker.turns.labels(tokens)
    first = labels.index(phase)
    assert first > 0
    np.testing.assert_array_equal(steered[:first], plain[:first])
    assert (steered[first] != plain[first]).any()


@pytest.fixture(params=["cpu", "gpu"])
def scripted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the model write a text, and tell its logits (T, V) on the way."""
    for module in (draws, decoding):
        monkeypatch.setattr(module, "on_cpu", lambda: request.param == "cpu")
    script: list[int] = []
    seen: list[np.ndarray] = []

    def drawn(self: draws.Draws, logits: mx.array) -> mx.array:
        seen.append(np.array(logits)[0])
        return mx.array([script.pop(0)])

    monkeypatch.setattr(draws.Draws, "_drawn", drawn)

    def write(model: Model, request: Request, text: str) -> np.ndarray:
        script[:] = model.tokenizer.encode(text, add_special_tokens=False)
        seen.clear()
        request = replace(request, intervention=checked(model, request.tokens, request.intervention))
        limits = Limits(len(script), 0.0)
        one = Decoding(model, {0: request}, limits, Work())
        while one.step():
            pass
        return np.stack(seen)

    return write


def test_what_the_model_writes_moves_its_steering_in_and_out(thinker: Model, scripted: Any) -> None:
    """Each token's logits are those of a pass over the whole text, whose labels are read off it."""
    tokens = thinker.chat_template.opened(TALK)
    text = "a<think>hm</think>b<tool_call>{x}</tool_call>c"
    plain = scripted(thinker, Request(tokens), text)
    written = tuple(thinker.tokenizer.encode(text, add_special_tokens=False))
    labels = thinker.turns.labels(tokens + written)[len(tokens) - 1 : -1]
    for phase in ("thinking", "tool", "response"):
        intervention = push(thinker, 1, 3.0, phase)
        found = scripted(thinker, Request(tokens, intervention), text)
        whole = checked(thinker, tokens + written, intervention)
        expected = forward(thinker, mx.array([tokens + written]), None, Steering([whole], [len(tokens)]), 0)
        np.testing.assert_allclose(found, np.array(expected)[0, len(tokens) - 1 : -1], atol=1e-3)
        if phase != "response":  # which is in the prompt as well
            first = labels.index(phase)
            np.testing.assert_array_equal(found[:first], plain[:first])
            assert np.abs(found[first] - plain[first]).max() > 0.01


def test_responses_are_steered_the_same_in_this_turn_and_in_the_next(real: Model) -> None:
    """So the next turn of a conversation reads nothing of the reply again."""
    direction = np.random.default_rng(0).standard_normal(real.identity.width).astype(np.float32)
    change = replace(push(real, 20, 1.0, "response").changes[0], direction=direction)
    intervention = Intervention((change,))
    prefixes, read = Prefixes(real), []
    talk = list(TALK)
    for _ in range(2):
        work = Work()
        running = Running(real, prefixes, work)
        running.add({0: Request(real.chat_template.opened(talk), intervention, max_tokens=8)})
        reply = []
        while tokens := running.step():
            reply += [token.text for token in tokens]
        read.append(work.tokens - len(reply))
        talk += [{"role": "assistant", "content": "".join(reply)}, {"role": "user", "content": "Why so?"}]
    assert read[1] < 16 < read[0]


def test_a_base_model_has_no_turns(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "base")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        if (path := folder / name).exists():
            text = path.read_text()
            path.write_text(json.dumps({**json.loads(text), "chat_template": None}) if name.endswith("json") else "")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with open_model(str(folder)) as model, pytest.raises(InterventionError, match="has no chat template, so its texts"):
        list(sample(model, [Request((5, 6, 7), push(model, 1, 1.0, "response"))], 2, 0.0, Work()))
