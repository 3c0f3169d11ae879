"""What clients of OpenAI's API send as null, and their own history as they send it back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from steering_core.explorer.openai import fields, messages
from steering_core.explorer.openai.fields import ChatCompletion, TextCompletion
from steering_core.explorer.routes.openai import UNREAD
from steering_core.store import Store
from tests.explorer import served

CALL = {"function": {"name": "now"}}
TOOL = {"type": "function", "function": {"name": "now"}}
LEAST: dict[type[messages.Open], dict[str, Any]] = {
    ChatCompletion: {"model": "m", "messages": [{"role": "user", "content": "Hello"}]},
    TextCompletion: {"model": "m", "prompt": "Hello"},
    messages.ChatMessage: {"role": "assistant", "content": "Hello"},
    messages.Part: {"type": "text", "text": "Hello"},
    messages.FunctionSpec: CALL["function"],
    messages.ToolCall: CALL,
    fields.ToolFunction: TOOL["function"],
    fields.Tool: TOOL,
    fields.Schema: {"schema": {}},
    fields.ResponseFormat: {"type": "text"},
    fields.StreamOptions: {},
}


def kinds(kind: type[messages.Open]) -> Iterator[type[messages.Open]]:
    for one in kind.__subclasses__():
        yield one
        yield from kinds(one)


@pytest.mark.parametrize("kind", LEAST)
def test_null_is_as_absent_in_every_optional_field(kind: type[messages.Open]) -> None:
    least, optional = LEAST[kind], [name for name, field in kind.model_fields.items() if not field.is_required()]
    absent = kind.model_validate(least)
    for name in optional:
        if name not in least:
            given = kind.model_validate({**least, name: None})
            assert (given, given.model_fields_set) == (absent, absent.model_fields_set), name
            assert list(given.unread()) == list(absent.unread()), name


def test_the_forms_of_requests_are_all_tried() -> None:
    assert set(kinds(messages.Open)) - {fields.Completion} == set(LEAST)


def test_null_is_as_absent_in_the_steering_and_missing_where_it_is_needed() -> None:
    use = {"vector": "agree", "contrast": None, "layers": None, "alpha": 1, "dose": None, "operation": None}
    sent = {**LEAST[ChatCompletion], "steering": {"vectors": [use], "phase": None, "expression": None}}
    steering = ChatCompletion.model_validate(sent).steering
    assert (steering.phase, steering.vectors[0].operation) == ("generation", "add")
    for needed in ("model", "messages"):
        with pytest.raises(ValidationError, match=needed):
            ChatCompletion.model_validate({**LEAST[ChatCompletion], needed: None})


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[str]:
    with served(Store(tmp_path_factory.mktemp("nulls") / "store"), models=[str(tiny_folder)]) as address:
        yield address


def test_a_history_is_read_as_its_client_heard_it(address: str, tiny_folder: Path) -> None:
    """An empty answer comes back as null, and one that was refused as a part or a field of that name."""

    def counted(answer: dict[str, Any], unread: str | None = None) -> int:
        talk = [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", **answer},
            {"role": "user", "content": "So"},
        ]
        body = {"model": str(tiny_folder), "messages": talk, "max_tokens": 1, "steering": None, "probes": None}
        told = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=30)
        assert told.status_code == 200, told.text
        assert told.headers.get(UNREAD) == unread
        return int(told.json()["usage"]["prompt_tokens"])

    said = counted({"content": "No."})
    assert counted({"content": [{"type": "refusal", "refusal": "No."}]}) == said
    assert counted({"content": None, "refusal": "No."}) == said
    assert counted({"content": "No.", "refusal": "Never."}, "messages.1.refusal") == said
    assert counted({"content": None}) == counted({}) == counted({"content": "", "refusal": None}) == said - len("No.")


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_others_say_something(role: str) -> None:
    with pytest.raises(ValidationError, match="content is missing: only an assistant's turn may have none"):
        messages.ChatMessage.model_validate({"role": role, "content": None})
