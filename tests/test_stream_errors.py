"""What goes wrong in a stream that has begun: one last event in the API's own form, and nothing of ours in it."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from steering_core.engine.running import Running
from steering_core.explorer.openai.answer import Answer
from steering_core.explorer.watching import Readings
from steering_core.foundation.errors import Diverged
from tests.explorer import copied, events, serving

SECRET = "a secret"
SEED = 3  # one text of a hundred ends before the fault
MESSAGES = [{"role": "user", "content": "Hello"}]
ODD_TEXT = "layer 3 is \ud800 broken:\n\n\n run `steer vectors show x`" + "y" * 100_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, agree_run: Path) -> Iterator[TestClient]:
    with serving(copied(agree_run, tmp_path_factory.mktemp("streams"))) as client:
        yield client


def later(fault: Exception, after: int) -> Callable[..., Any]:
    """Stands for a method: it does its work so many times, and then raises."""
    done = 0

    def fails(this: Any, *given: Any) -> Any:
        nonlocal done
        done += 1
        if done > after:
            raise fault
        return WHOLE[type(this)](this, *given)

    return fails


WHOLE: dict[type, Callable[..., Any]] = {Running: Running.step, Answer: Answer.add, Readings: Readings.add}
Sent = Callable[[TestClient, str], list[dict[str, Any]]]


def steered(client: TestClient, model: str) -> list[dict[str, Any]]:
    body = {"model": model, "prompt": "Hello", "max_tokens": 8, "probes": ["agree"]}
    return events(client, "/api/steer", body)


def chatted(client: TestClient, model: str) -> list[dict[str, Any]]:
    body = {"model": model, "messages": MESSAGES, "max_tokens": 8, "stream": True, "seed": SEED}
    return events(client, "/v1/chat/completions", body)


def completed(client: TestClient, model: str) -> list[dict[str, Any]]:
    body = {"model": model, "prompt": "Hello", "max_tokens": 8, "stream": True, "seed": SEED}
    return events(client, "/v1/completions", body)


def sampled(client: TestClient, model: str) -> list[dict[str, Any]]:
    """The texts of a scored cell."""
    sql = "SELECT concept_id, intervention_id FROM raw.scores WHERE control IS NULL LIMIT 1"
    (cell,) = client.post("/api/sql", json={"sql": sql}).json()["rows"]
    return events(client, "/api/texts", {"model": model, **cell})


STREAMS: dict[str, tuple[Sent, type, str]] = {
    "steer, where it is drawn": (steered, Running, "step"),
    "steer, where it is read": (steered, Readings, "add"),
    "chat, where it is drawn": (chatted, Running, "step"),
    "chat, where it is written": (chatted, Answer, "add"),
    "completion, where it is written": (completed, Answer, "add"),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("fault", [ValueError(SECRET), Diverged(ODD_TEXT)], ids=["ours", "told"])
def test_a_stream_that_has_begun_ends_with_one_error(
    client: TestClient,
    tiny_folder: Path,
    stream: str,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send, owner, method = STREAMS[stream]
    monkeypatch.setattr(owner, method, later(fault, 2))
    with caplog.at_level(logging.ERROR):
        found = send(client, str(tiny_folder))
    told(found, fault, openai=send in (chatted, completed), log=caplog.text)
    monkeypatch.undo()
    assert "error" not in json.dumps(send(client, str(tiny_folder)))  # the next one is served


@pytest.mark.parametrize("fault", [ValueError(SECRET), Diverged(ODD_TEXT)], ids=["ours", "told"])
def test_texts_of_a_cell_end_with_one_error(
    client: TestClient,
    tiny_folder: Path,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("steering_core.explorer.routes.look._sample", fails)
    told(sampled(client, str(tiny_folder)), fault, openai=False, log=caplog.text)


def told(found: list[dict[str, Any]], fault: Exception, openai: bool, log: str) -> None:
    """Check that the last event tells a fault, in the API's form, once, and no more than it should."""
    if openai:
        assert found.pop() == {"event": "[DONE]"}
        error = found.pop()["error"]
        status, code = error["type"], error["code"]
        assert not [event for event in found if "error" in event]
        assert all(event["object"] for event in found)
    else:
        error = found.pop()
        status, code = {500: "server_error", 400: "invalid_request_error"}[error["status"]], error["type"]
        assert error["event"] == "error"
        assert not [event for event in found if event["event"] in ("error", "done")]
    assert code == type(fault).__name__
    assert status == ("invalid_request_error" if isinstance(fault, Diverged) else "server_error")
    if isinstance(fault, Diverged):
        assert error["message"].startswith("layer 3 is ? broken:\n run `steer vectors show x --store ")
        assert len(error["message"]) < 2_100
    else:
        assert SECRET not in json.dumps(error)
        assert "the server's log has the details" in error["message"]
        assert SECRET in log
        assert "in fails" in log


def test_arguments_of_a_call_that_are_nested_without_end_are_refused(client: TestClient, tiny_folder: Path) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "[" * 10_000}}
    body = {"model": str(tiny_folder), "messages": [*MESSAGES, {"role": "assistant", "tool_calls": [call]}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 422
    assert "nested too deeply" in answer.json()["error"]["message"]
