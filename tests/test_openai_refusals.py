"""What the OpenAI-compatible API refuses, with which status and words, and what it names as unread."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering_core.explorer.routes.openai import UNREAD
from steering_core.models import embedded
from steering_core.store import Store
from tests.explorer import served

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[str]:
    with served(Store(tmp_path_factory.mktemp("refusals") / "store"), models=[str(tiny_folder)]) as address:
        yield address


def test_known_fields_that_do_nothing_beside_the_others_are_named_too(address: str, tiny_folder: Path) -> None:
    def named(**more: Any) -> str | None:
        body = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 1, **more}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers.get(UNREAD)

    usage = {"stream_options": {"include_usage": True}}
    idle = {"top_logprobs": 2, "repetition_context_size": 3, **usage, "max_completion_tokens": 1}
    assert named(**idle) == "stream_options, max_tokens, repetition_context_size, top_logprobs"
    assert named(**usage, stream=True, logprobs=True, top_logprobs=2, temperature=0) is None
    assert named(repetition_penalty=1.1, repetition_context_size=3, max_tokens=None, max_completion_tokens=1) is None


@pytest.mark.parametrize("wrong", [
    (404, {"model": "gpt-4"}, "there is no model 'gpt-4' here"),
    (404, {"steering": {"expression": "40%*nowhere"}}, "no vector 'nowhere'"),
    (404, {"probes": ["nowhere"]}, "no vector 'nowhere'"),
    (422, {"probes": ["nowhere", "nowhere"]}, "a probe is named twice"),
    (422, {"probes": [f"v{i}" for i in range(9)]}, "at most 8"),
    (400, {"steering": {"expression": "40%*"}}, "expected a vector's name"),
    (400, {"messages": [{"role": "user", "content": "word " * 20_000}]}, "100,003 tokens is beyond"),
    (400, {"logit_bias": {"99999": 1}}, "token 99999 is none"),
    (400, {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}}, "Invalid type"),
])  # fmt: skip
def test_what_cannot_be_answered_has_a_status_in_a_stream_too(address: str, tiny_folder: Path, wrong: Any) -> None:
    """A stream has not begun then: its client need not look for an error among its pieces."""
    status, change, words = wrong
    body = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 2, **change}
    whole, stream = (
        httpx.post(f"{address}/v1/chat/completions", json={**body, "stream": streams}, timeout=60)
        for streams in (False, True)
    )
    assert (whole.status_code, stream.status_code) == (status, status), (whole.text, stream.text)
    assert whole.json() == stream.json()
    assert words in whole.json()["error"]["message"]
    assert whole.json()["error"]["type"] == "invalid_request_error"


def test_a_fault_of_ours_is_a_500(address: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr("steering_core.explorer.routes.openai.conversation", fails)
    for streams in (False, True):
        body = {"model": str(tiny_folder), "messages": MESSAGES, "stream": streams}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=30)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert "secret" not in answer.text


IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize(("path", "change", "message"), [
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]},
     "messages.0.content.1.type: Input should be 'text', 'input_text' or 'output_text' (got 'image_url'); "
     "messages.0.content.1.text: Field required"),
    ("chat/completions", {"messages": [{"role": "user", "content": 5}]},
     "messages.0.content: Input should be a valid string or a valid list (got 5)"),
    ("chat/completions", {"stop": ""}, "stop: String should have at least 1 character (got '')"),
    ("chat/completions", {"stop": ["a", 3]}, "stop.1: Input should be a valid string (got 3)"),
    ("chat/completions", {"tool_choice": "required"},
     "tool_choice: Input should be 'auto' or 'none' (got 'required'): no model is held to a call, but response_format "
     "holds an answer to a JSON schema, also of a model whose template takes no tools"),
    ("completions", {"prompt": ""}, "prompt: String should have at least 1 character (got '')"),
    ("completions", {"prompt": []}, "prompt: List should have at least 1 item after validation, not 0 (got [])"),
    ("completions", {"prompt": ["a", 5]}, "prompt.1: Input should be a valid string (got 5)"),
    ("completions", {"prompt": [[1], [-2]]}, "prompt.1.0: Input should be greater than or equal to 0 (got -2)"),
    ("completions", {"prompt": {"a": 1}}, "prompt: Input should be a valid string or a valid list (got {'a': 1})"),
])  # fmt: skip
def test_a_field_of_several_kinds_is_told_one_fault(
    address: str, tiny_folder: Path, path: str, change: dict[str, Any], message: str
) -> None:
    body = {"model": str(tiny_folder), **({"messages": MESSAGES} if "chat" in path else {}), **change}
    answer = httpx.post(f"{address}/v1/{path}", json=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, message)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusals_commands_name_the_store(address: str, tiny_folder: Path, stream: bool) -> None:
    body = {
        "model": str(tiny_folder),
        "messages": MESSAGES,
        "steering": {"expression": "40%*nowhere"},
        "stream": stream,
    }
    said = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()["error"]["message"]
    assert "`steer vectors list --store " in said
    assert said.count("--store") == 1


def test_a_model_whose_terms_nobody_accepted_is_not_listed_and_says_why(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv(embedded.GEMMA_TERMS, raising=False)

    def listed() -> set[str]:
        return {one["id"] for one in httpx.get(f"{address}/v1/models", timeout=30).json()["data"]}

    assert not {name for name in listed() if name.startswith("gemma3-270m")}
    assert "smollm2-135m" in listed()
    for path in ("gemma3-270m", "gemma3-270m+sentiment:30%"):
        told = httpx.get(f"{address}/v1/models/{path}", timeout=30)
        assert (told.status_code, told.json()["error"]["message"].endswith("=1 if you accept them")) == (404, True)
    monkeypatch.setenv(embedded.GEMMA_TERMS, "1")
    assert "gemma3-270m" in listed()
    monkeypatch.delenv(embedded.GEMMA_TERMS)
    made = embedded._folder_of("gemma3-270m")
    made.mkdir(parents=True)
    (made / embedded.MANIFEST).write_text("{}")
    assert "gemma3-270m" in listed(), "made once, it needs no terms"
