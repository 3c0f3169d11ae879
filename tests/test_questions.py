"""What a model is asked from Python: a text, several, or messages. What is none of these is one error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steering_core as steer
from steering_core.api.questions import open_question
from steering_core.foundation.errors import ModelError, PromptError
from steering_core.models import Model

USER = {"role": "user", "content": "Hello!"}
ASKING: list[Callable[..., Any]] = [
    lambda model, text: steer.generate(model, text, max_tokens=2),
    lambda model, text: list(steer.stream(model, text, max_tokens=2)),
    lambda model, text: steer.compare(model, text, [None], max_tokens=2),
    lambda model, text: steer.logits(model, text),
]


@pytest.mark.parametrize("ask", ASKING, ids=["generate", "stream", "compare", "logits"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "the prompt is a NoneType: give a text, or messages such as"),
        (3, "the prompt is a int"),
        (b"Hello", "the prompt is a bytes"),
        (USER, "the prompt is a dict: give a text, or messages such as"),
        ([], "there is no message: give at least one"),
        ([("user", "Hello")], r"message 0 is .*: a message has a role and a content"),
        ([{"role": "user"}], "message 0 is .*: a message has a role and a content"),
        ([{"role": "user", "content": b"Hello"}], "message 0 has the content .*: give a text"),
        ([USER, {"role": "usr", "content": "Hello"}], "message 1 has the role 'usr': did you mean 'user'"),
        ([{"role": "System", "content": "Hello"}, USER], "message 0 has the role 'System': did you mean 'system'"),
        ([{"role": 3, "content": "Hello"}], "message 0 has the role 3: there are: assistant, system, tool, user"),
        ([USER, {"role": "assistant", "content": "Hi."}], "the last message is the assistant's own: end in the user's"),
    ],
)
def test_what_is_no_question_is_one_error(tiny: Model, ask: Callable[..., Any], text: object, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        ask(tiny, text)


@pytest.mark.parametrize("ask", ASKING, ids=["generate", "stream", "compare", "logits"])
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("smollm2-135m", r"is a str, no model: open it first, open_model\('smollm2-135m'\)"),
        ("How are you?", "is a str, no model: the model comes first, then what it is asked"),
        (None, "is a NoneType, no model: the model comes first"),
    ],
)
def test_what_is_no_model_is_one_error(ask: Callable[..., Any], model: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ask(model, "Hello")


def test_several_texts_are_for_generate_alone(tiny: Model) -> None:
    with pytest.raises(PromptError, match="the prompt is 2 texts: give one, or ask `generate`"):
        steer.compare(tiny, ["a", "b"], [None])  # type: ignore[list-item]


def test_a_second_system_prompt_is_refused(tiny: Model) -> None:
    with pytest.raises(PromptError, match="there are two system prompts"):
        steer.generate(tiny, [{"role": "system", "content": "Be brief."}, USER], system="Be long.")


def test_a_role_of_the_templates_own_is_taken(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"role": "developer", "content": "Be brief."}, USER]
    with pytest.raises(PromptError, match="has the role 'developer'"):
        open_question(tiny, told)
    own = tiny.tokenizer._tokenizer
    source = str(own.chat_template)
    monkeypatch.setattr(own, "chat_template", source + "{% if messages[0]['role'] == 'developer' %}{% endif %}")
    assert open_question(tiny, told).tokens


def test_several_texts_are_answered_in_one_batch_as_each_alone(tiny: Model) -> None:
    texts = ["Hello!", "How was the concert?", "a"]
    vector = steer.Vector.from_numpy(tiny, np.ones(tiny.identity.width), layer=1)
    passes = steer.generate(tiny, texts, vector, dose=0.3, max_tokens=6)
    assert passes == [steer.generate(tiny, text, vector, dose=0.3, max_tokens=6) for text in texts]
    assert steer.generate(tiny, tuple(texts[:1]), max_tokens=6) == [steer.generate(tiny, texts[0], max_tokens=6)]
