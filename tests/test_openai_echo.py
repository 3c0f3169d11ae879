"""Text completions that echo their prompt, with the log-probabilities of its tokens, as evaluation harnesses ask."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine.forward import forward
from steering_core.engine.steering import Steering
from steering_core.engine.teacher_forcing import log_softmax
from steering_core.explorer.routes.openai import WARNED
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.prompts import prompt
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.resolve import resolved
from tests.explorer import served

TEXT = "Once upon a time, and so on. " * 5  # more tokens than are read at once
STEERED = "3*agree @all"


@pytest.fixture(scope="module")
def address(ran: Store, tiny_folder: Path) -> Iterator[str]:
    with served(ran, models=[str(tiny_folder)]) as address:
        yield address


@pytest.fixture
def asked(address: str, tiny_folder: Path) -> Any:
    def ask(**more: Any) -> Any:
        body = {"model": str(tiny_folder), "prompt": TEXT, "max_tokens": 0, "echo": True, "logprobs": 3, **more}
        return httpx.post(f"{address}/v1/completions", json={"temperature": 0, **body}, timeout=60)

    return ask


def expected(model: Model, tokens: tuple[int, ...], intervention: Intervention) -> np.ndarray:
    """Log-probabilities (T, V) of a plain pass over all tokens at once."""
    return log_softmax(forward(model, mx.array([tokens]), None, Steering([intervention], [len(tokens)]), 0)[0])


@pytest.mark.parametrize("expression", [None, STEERED])
def test_prompt_tokens_bring_their_log_probabilities(
    asked: Any, ran: Store, tiny: Model, expression: str | None
) -> None:
    steering = {"steering": {"expression": expression}} if expression else {}
    answer = asked(**steering)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    tokens = prompt(tiny, TEXT, chat=False).tokens
    intervention = Intervention()
    if expression:
        intervention = resolved(
            expression, lambda name: library.named(ran, name, tiny.identity), tiny.identity.n_layers
        )
    logs = expected(tiny, tokens, intervention)
    told = choice["logprobs"]
    assert (choice["text"], choice["finish_reason"], "".join(told["tokens"])) == (TEXT, "length", TEXT)
    assert told["text_offset"] == list(range(len(TEXT)))
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    own = logs[np.arange(len(tokens) - 1), list(tokens[1:])]
    assert told["token_logprobs"][1:] == pytest.approx(own.tolist(), abs=1e-4)
    best = np.sort(logs[:-1], axis=-1)[:, :-4:-1]
    assert [list(top.values())[::-1] for top in told["top_logprobs"][1:]] == [
        pytest.approx(row.tolist(), abs=1e-4) for row in best
    ]
    assert answer.json()["usage"] == {
        "prompt_tokens": len(tokens), "completion_tokens": 0, "total_tokens": len(tokens),
    }  # fmt: skip


def test_prompts_in_tokens_and_several_at_once_with_drawn_tokens_after_them(asked: Any, tiny: Model) -> None:
    one = asked().json()["choices"][0]
    tokens = list(prompt(tiny, TEXT, chat=False).tokens)
    drawn = {"max_tokens": 2, "logit_bias": {str(tiny.tokenizer.eos_token_id): -100}}
    both = asked(prompt=[tokens, tokens[:2]], n=2, **drawn).json()["choices"]
    assert [choice["index"] for choice in both] == [0, 1, 2, 3]
    assert both[0]["text"].startswith(TEXT), "the text of given tokens is echoed"
    for key in ("tokens", "text_offset"):
        assert both[0]["logprobs"][key][: len(tokens)] == one["logprobs"][key]
    for mine, other in zip(both[0]["logprobs"]["top_logprobs"], one["logprobs"]["top_logprobs"], strict=False):
        assert mine == (other and pytest.approx(other, abs=1e-4))
    numbers = both[0]["logprobs"]["token_logprobs"][1 : len(tokens)]  # the first has none
    assert numbers == pytest.approx(one["logprobs"]["token_logprobs"][1:], abs=1e-4)
    for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert len(both[0]["logprobs"][key]) == len(tokens) + 2
        assert len(both[3]["logprobs"][key]) == 4
    alone = asked(echo=False, **drawn).json()["choices"][0]["logprobs"]
    assert both[0]["logprobs"]["tokens"][len(tokens) :] == alone["tokens"]
    assert both[0]["logprobs"]["token_logprobs"][len(tokens) :] == pytest.approx(alone["token_logprobs"], abs=1e-4)


@pytest.mark.parametrize("max_tokens", [0, 2])
def test_a_stream_brings_the_same(asked: Any, max_tokens: int) -> None:
    whole = asked(max_tokens=max_tokens).json()["choices"][0]
    lines = [line for line in asked(max_tokens=max_tokens, stream=True).text.split("\n\n") if line]
    parts = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines[:-1]]
    assert "".join(part["text"] for part in parts) == whole["text"]
    told = [part["logprobs"] for part in parts if part["logprobs"]]
    assert [value for part in told for value in part["token_logprobs"]] == whole["logprobs"]["token_logprobs"]
    assert parts[-1]["finish_reason"] == "length"


def test_no_tokens_without_an_echo_are_an_empty_text(asked: Any) -> None:
    (choice,) = asked(echo=False).json()["choices"]
    assert (choice["text"], choice["logprobs"], choice["finish_reason"]) == ("", None, "length")


def test_steering_that_reads_no_prompt_is_told(asked: Any) -> None:
    generation = {"steering": {"expression": "3*agree"}}
    answer = asked(**generation)
    assert "acts on no token of the prompt" in answer.headers[WARNED]
    assert answer.json()["choices"] == asked().json()["choices"]
    for quiet in (asked(), asked(logprobs=None, **generation), asked(steering={"expression": STEERED})):
        assert "acts on no token" not in quiet.headers.get(WARNED, "")
