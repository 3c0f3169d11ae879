"""The OpenAI-compatible API, through OpenAI's own client: every field does what it says, or is named as unread."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine import draws
from steering_core.explorer.openai.names import steered_name
from steering_core.explorer.planned import PlannedSteering
from steering_core.explorer.routes.openai import UNREAD
from steering_core.foundation.errors import ModelNotFound
from steering_core.models import Model
from steering_core.prompts import prompt
from steering_core.store import Store
from tests.explorer import served
from tests.tiny import CHAT_TEMPLATE, save_tiny_model

MESSAGES = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLS_TEMPLATE = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% for tool_call in m['tool_calls'] or [] %}<tool_call>"
    '{"name": {{ tool_call.function.name | tojson }}, "arguments": {{ tool_call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    "{# the tool_call.name of mlx-lm's json_tools #}"
)


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template takes tools."""
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tooled", seed=3)
    (folder / "chat_template.jinja").write_text(TOOLS_TEMPLATE)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def address(ran: Store, tooled: Path) -> Iterator[str]:
    with served(ran, models=[str(tooled)]) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


@pytest.fixture
def asked(client: openai.OpenAI, tiny_folder: Path) -> Any:
    def ask(**more: Any) -> Any:
        same = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 12, "seed": 3, "temperature": 1.0}
        return client.chat.completions.create(**{**same, **more})

    return ask


def said(answer: Any) -> list[str]:
    return [choice.message.content for choice in answer.choices]


@pytest.mark.parametrize(
    "field",
    [
        {"top_p": 0.1},
        {"extra_body": {"top_k": 2}},
        {"extra_body": {"min_p": 0.6}},
        {"extra_body": {"repetition_penalty": 9.0}},
        {"frequency_penalty": -40.0},
        {"presence_penalty": 60.0, "extra_body": {"presence_context_size": 24}},
        {"temperature": 0.0},
        {"seed": 4},
        {"logit_bias": {str(token): -100 for token in range(4, 200)}},
    ],
)
def test_every_field_of_sampling_changes_the_text_and_alike_in_a_stream(asked: Any, field: dict[str, Any]) -> None:
    field = {**field, "max_tokens": 48}  # so long that tokens come again, which penalties are about
    (changed,) = said(asked(**field))
    assert changed != said(asked(max_tokens=48))[0]
    assert changed == said(asked(**field))[0]
    chunks = [chunk for chunk in asked(**field, stream=True) if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == changed


def test_fields_at_their_neutral_values_change_nothing(asked: Any) -> None:
    neutral = {"top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "logit_bias": {}, "n": 1}
    body = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "repetition_context_size": 5}
    assert said(asked(**neutral, extra_body=body)) == said(asked())


def test_rows_of_many_kinds_at_once_are_what_each_is_alone(address: str, tiny_folder: Path) -> None:
    """Steered and not, greedy and not, penalised and filtered: requests that come together, in one running batch."""
    kinds: list[dict[str, Any]] = [
        {}, {"temperature": 0}, {"top_k": 3}, {"presence_penalty": 30}, {"steering": {"expression": "3*agree"}},
        {"n": 2}, {"stop": ["a"]}, {"max_tokens": 3}, {"messages": [{"role": "user", "content": "Hello " * 9}]},
    ]  # fmt: skip
    same = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 24, "seed": 3}

    async def texts(bodies: list[dict[str, Any]], at_once: bool) -> list[list[str]]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            calls = [client.post("/v1/chat/completions", json={**same, **body}) for body in bodies]
            found = await asyncio.gather(*calls) if at_once else [await call for call in calls]
            return [[c["message"]["content"] for c in answer.json()["choices"]] for answer in found]

    assert asyncio.run(texts(kinds, at_once=True)) == asyncio.run(texts(kinds, at_once=False))


def test_logprobs_are_those_of_a_plain_pass(asked: Any, tiny: Model) -> None:
    answer = asked(logprobs=True, top_logprobs=2, max_tokens=4)
    content = answer.choices[0].logprobs.content
    tokens = prompt(tiny, "Hello", chat=True).tokens
    for place, one in enumerate(content):
        logits = np.array(tiny.network(mx.array([tokens])))[0, -1].astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum())
        ids = [i for i in range(tiny.identity.vocab_size) if tiny.token_bytes(i) == bytes(one.bytes)]
        drawn = min(ids, key=lambda i: abs(expected[i] - one.logprob))
        assert one.logprob == pytest.approx(expected[drawn], abs=1e-4), place
        assert [t.logprob for t in one.top_logprobs] == pytest.approx(np.sort(expected)[::-1][:2].tolist(), abs=1e-4)
        tokens += (drawn,)
    streamed = [c.choices[0].logprobs for c in asked(logprobs=True, top_logprobs=2, max_tokens=4, stream=True)]
    assert [t.logprob for part in streamed for t in part.content] == [t.logprob for t in content]
    assert asked().choices[0].logprobs is None


def test_texts_are_completed_in_lists_in_tokens_and_with_their_likelihoods(
    client: openai.OpenAI, tiny_folder: Path, tiny: Model
) -> None:
    same: dict[str, Any] = {"model": str(tiny_folder), "max_tokens": 5, "temperature": 0}
    one = client.completions.create(**same, prompt="Once", logprobs=2)
    told = one.choices[0].logprobs
    assert told is not None
    assert told.token_logprobs is not None
    assert told.text_offset is not None
    pieces = [token.encode().decode("unicode_escape").encode("latin-1") for token in told.tokens or []]
    assert b"".join(p.removeprefix(b"bytes:") for p in pieces).decode(errors="replace") == one.choices[0].text
    assert told.text_offset[0] == 0
    two = client.completions.create(**same, prompt=["Once", "Twice upon"], n=2)
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    assert two.choices[0].text == two.choices[1].text == one.choices[0].text != two.choices[2].text
    tokens = list(prompt(tiny, "Once", chat=False).tokens)
    assert client.completions.create(**same, prompt=tokens).choices[0].text == one.choices[0].text
    assert client.completions.create(**same, prompt=[tokens, tokens]).choices[1].text == one.choices[0].text
    echoed = client.completions.create(**same, prompt="Once", echo=True).choices[0].text
    assert echoed == "Once" + one.choices[0].text
    with pytest.raises(openai.BadRequestError, match=r"it has 0\.\.259"):
        client.completions.create(**same, prompt=[1, 999_999])


def test_an_answer_is_held_to_a_schema(asked: Any) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    answer = asked(response_format=form, max_tokens=80)
    assert set(json.loads(said(answer)[0])) == {"yes"}
    assert answer.choices[0].finish_reason == "stop"
    assert said(asked(response_format={"type": "text"})) == said(asked())
    with pytest.raises(openai.BadRequestError, match="cannot be followed"):
        asked(response_format={"type": "json_schema", "json_schema": {"name": "v", "schema": {"type": "odd"}}})
    with pytest.raises(openai.UnprocessableEntityError, match="json_schema goes with"):
        asked(response_format={"type": "json_schema"})


def test_what_changes_nothing_is_named_and_never_silent(address: str, tiny_folder: Path) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache": 1}], "audio": None}]
    body = {"model": str(tiny_folder), "messages": messages, "max_tokens": 2, "user": "me", "wärme": 1}
    for stream in (False, True):
        answer = httpx.post(f"{address}/v1/chat/completions", json={**body, "stream": stream}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.headers[UNREAD] == r"user, w\xe4rme, messages.0.audio, messages.0.content.0.cache"
    plain = httpx.post(f"{address}/v1/chat/completions", json={**body, "user": None, "messages": MESSAGES}, timeout=30)
    assert plain.headers[UNREAD] == r"user, w\xe4rme"


def test_a_top_p_of_nothing_leaves_the_likeliest_token(asked: Any) -> None:
    """mlx-lm takes 0 as no filter; a client that sends it means the narrowest one."""
    assert said(asked(top_p=0)) == said(asked(temperature=0)) != said(asked())


def test_a_text_goes_on_to_the_models_context_where_no_limit_is_given(asked: Any, tiny: Model) -> None:
    bias = {str(tiny.tokenizer.eos_token_id): -100}
    answer = asked(max_tokens=openai.NOT_GIVEN, logit_bias=bias)
    assert answer.usage.total_tokens == tiny.identity.context
    assert answer.choices[0].finish_reason == "length"


# -- tools --------------------------------------------------------------------------------------------------------


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have every model say a text, token by token, and then stop."""
    script: list[int] = []
    own = draws.Draws._drawn

    def drawn(self: draws.Draws, logits: mx.array) -> mx.array:
        return mx.array([script.pop(0)]) if script else own(self, logits)

    monkeypatch.setattr(draws.Draws, "_drawn", drawn)

    def say(model: Model, text: str) -> None:
        script[:] = [*model.tokenizer.encode(text, add_special_tokens=False), model.tokenizer.eos_token_id]

    return say


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call>'


def test_a_tools_call_is_read_by_mlx_lms_parser(client: openai.OpenAI, tooled: Path, tiny: Model, says: Any) -> None:
    same: dict[str, Any] = {"model": str(tooled), "messages": MESSAGES, "tools": [WEATHER], "max_tokens": 200}
    says(tiny, f"Let me see. {CALL}")
    answer = client.chat.completions.create(**same).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content == "Let me see. "
    (call,) = answer.message.tool_calls or []
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Zürich"}

    says(tiny, f"Let me see. {CALL}{CALL}")
    streamed = client.chat.completions.stream(**same)
    with streamed as events:
        whole = events.get_final_completion().choices[0]
    assert whole.message.content == "Let me see. "
    assert [c.function.name for c in whole.message.tool_calls or []] == ["weather", "weather"]
    assert whole.finish_reason == "tool_calls"


def test_a_call_that_cannot_be_read_stays_in_the_text(
    client: openai.OpenAI, tooled: Path, tiny: Model, says: Any
) -> None:
    same: dict[str, Any] = {"model": str(tooled), "messages": MESSAGES, "tools": [WEATHER], "max_tokens": 200}
    says(tiny, "<tool_call>{nonsense</tool_call> so")
    answer = client.chat.completions.create(**same).choices[0]
    assert answer.message.content == "<tool_call>{nonsense so"
    assert answer.finish_reason == "stop"
    assert not answer.message.tool_calls


def test_tools_and_their_answers_go_through_the_template(client: openai.OpenAI, tooled: Path) -> None:
    same: dict[str, Any] = {"model": str(tooled), "max_tokens": 1}
    bare = client.chat.completions.create(**same, messages=MESSAGES).usage
    offered = client.chat.completions.create(**same, messages=MESSAGES, tools=[WEATHER]).usage
    assert offered is not None
    assert bare is not None
    assert offered.prompt_tokens > bare.prompt_tokens + 50
    none = client.chat.completions.create(**same, messages=MESSAGES, tools=[WEATHER], tool_choice="none").usage
    assert none == bare
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zug"}'}}
    talk: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    more = client.chat.completions.create(**same, messages=talk, tools=[WEATHER]).usage
    assert more is not None
    assert more.prompt_tokens > offered.prompt_tokens + len("weather") + len("Zug") + len("sunny")
    with pytest.raises(openai.UnprocessableEntityError, match="arguments"):
        client.chat.completions.create(**same, messages=[{**talk[1], "tool_calls": [{**call, "function": {
            "name": "weather", "arguments": "{"}}]}])  # fmt: skip


def test_a_template_without_tools_is_told(asked: Any) -> None:
    assert "tools" not in CHAT_TEMPLATE
    with pytest.raises(openai.BadRequestError, match="takes no tools, so the model would never hear"):
        asked(tools=[WEATHER])
    with pytest.raises(openai.UnprocessableEntityError, match="tool_choice"):
        asked(tools=[WEATHER], tool_choice="required")


# -- models by name -----------------------------------------------------------------------------------------------


def test_a_steered_model_goes_by_its_name(client: openai.OpenAI, asked: Any, ran: Store, tiny_folder: Path) -> None:
    (vector,) = {m.id for m in client.models.list() if m.id.startswith(f"{tiny_folder}+agree/")}
    by_field = asked(extra_body={"steering": {"expression": "80%*agree - 0.5*agree"}})
    by_name = asked(model=f"{tiny_folder}+agree:80%+agree:-0.5")
    assert said(by_name) == said(by_field) != said(asked())
    assert by_name.model == f"{tiny_folder}+agree:80%+agree:-0.5"
    assert said(asked(model=vector)), "each that is listed answers"
    assert client.models.retrieve(vector).id == vector
    for name, words in (
        (f"{tiny_folder}+", "names no strength in ''"), (f"{tiny_folder}+agree:much", "no strength"),
        ("gpt-9+agree:30%", "there is no model 'gpt-9' here"), (f"{tiny_folder}+nowhere:1", "no vector 'nowhere'"),
    ):  # fmt: skip
        with pytest.raises((openai.NotFoundError, openai.BadRequestError), match=words):
            asked(model=name)


def test_a_models_own_plus_is_no_vector() -> None:
    known = ["a+b", "a"]
    assert steered_name("a+b", known, PlannedSteering()) == ("a+b", PlannedSteering())
    assert steered_name("a+b+c:1", known, PlannedSteering(expression="x")) == (
        "a+b",
        PlannedSteering(expression="1*c; x"),
    )
    assert steered_name("a+c/mean/3:-20%", known, PlannedSteering())[1].expression == "-20%*c/mean/3"
    assert steered_name("a+c+d:1", ["a"], PlannedSteering())[1].expression == "c; 1*d"
    with pytest.raises(ModelNotFound, match="names no strength"):
        steered_name("a+b:1+:2", known, PlannedSteering())


def test_a_name_without_a_strength_is_as_strong_as_recommended(asked: Any, ran: Store, tiny_folder: Path) -> None:
    (recommended,) = ran.rows("SELECT dose FROM recommendations WHERE concept = 'agree' AND vector_id IS NOT NULL")
    by_name = asked(model=f"{tiny_folder}+agree")
    by_field = asked(extra_body={"steering": {"vectors": [{"vector": "agree"}]}})
    assert recommended["dose"]
    assert said(by_name) == said(by_field) != said(asked())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}+unknown:30%", "has no vector 'unknown'"),
        ("{}+unknown", "has no vector 'unknown'"),
        ("{}+agree:30%+unknown:1", "has no vector 'unknown'"),
        ("{}+agree/mean_difference/40:30%", "has no vector"),
        ("smollm2-135m+agree:30%", "has no vector of smollm2-135m"),
    ],
)
def test_a_model_with_a_vector_that_is_not_there_is_not_found(
    client: openai.OpenAI, ran: Store, tiny_folder: Path, name: str, words: str
) -> None:
    with pytest.raises(openai.NotFoundError, match=words):
        client.models.retrieve(name.format(tiny_folder))
    for there in (f"{tiny_folder}+agree", f"{tiny_folder}+agree:30%", str(tiny_folder)):
        assert client.models.retrieve(there).id == there
