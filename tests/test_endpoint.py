"""The client of OpenAI-compatible servers: asks in order, waits out what mends, and says what does not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from steering_core.foundation import endpoint
from steering_core.foundation.endpoint import API_KEY, Endpoint, EndpointAnswer, EndpointSampling
from steering_core.foundation.errors import EndpointError
from tests.chat_server import Reply, chat_server, said

ASKED = [[{"role": "user", "content": f"question {i}"}] for i in range(7)]
GREEDY = EndpointSampling(max_tokens=9, temperature=0.0)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited; no time passes."""
    waited: list[float] = []
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.delenv(API_KEY, raising=False)
    return waited


def echo(body: dict[str, Any], n: int) -> Reply:
    return said(body["messages"][-1]["content"].upper(), model="m-2026", system_fingerprint="fp1")


def busy(times: int) -> Callable[[dict[str, Any], int], Reply]:
    return lambda body, n: echo(body, n) if n >= times else (429, {"Retry-After": "7"} if n else {}, "slow down")


@pytest.mark.parametrize("at_once", [1, 4])
def test_answers_come_in_the_questions_order(at_once: int) -> None:
    with chat_server(echo) as server:
        found = list(Endpoint(server.url, "m").answers(ASKED, GREEDY, at_once))
    assert found == [EndpointAnswer(f"QUESTION {i}", False, "m-2026 fp1") for i in range(7)]
    assert len(server.asked) == 7


def test_a_question_is_asked_in_openais_form_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with chat_server(echo) as server:
        list(Endpoint(server.url, "m", key_from="MY_KEY").answers(ASKED[:1], GREEDY))
    ((path, key, body),) = server.asked
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 9, 0.0)
    assert body["messages"] == ASKED[0]


def test_a_busy_server_is_asked_again_as_late_as_it_wants(waits: list[float]) -> None:
    with chat_server(busy(2)) as server:
        (answer,) = Endpoint(server.url, "m").answers(ASKED[:1], GREEDY)
    assert answer.text == "QUESTION 0"
    assert waits == [1.0, 7.0]


def test_tries_are_bounded(waits: list[float]) -> None:
    with chat_server(busy(99)) as server, pytest.raises(EndpointError, match="answers 429: slow down"):
        list(Endpoint(server.url, "m", retries=2).answers(ASKED[:1], GREEDY))
    assert len(server.asked) == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, "who are you"), rf"answers 401: who are you .*{API_KEY} is not set"),
        ((200, {}, "not json"), "does not answer as OpenAI's"),
        ((200, {}, {"choices": []}), "does not answer as OpenAI's"),
        ((200, {}, [1]), "does not answer as OpenAI's"),
        ((307, {"Location": "/elsewhere"}, ""), "answers 307"),
    ],
)
def test_what_time_does_not_mend_is_an_error_at_once(reply: Reply, message: str, waits: list[float]) -> None:
    with chat_server(lambda body, n: reply) as server, pytest.raises(EndpointError, match=message):
        list(Endpoint(server.url, "m").answers(ASKED[:1], GREEDY))
    assert (len(server.asked), waits) == (1, [])


def test_without_a_server_it_says_what_it_needs(waits: list[float]) -> None:
    with pytest.raises(EndpointError, match=r"start a server there .* name a local model"):
        list(Endpoint("http://127.0.0.1:9/v1", "m").answers(ASKED[:1], GREEDY))
    assert waits == [1.0, 2.0]
    for nowhere in ("localhost", "http://[nonsense"):
        with pytest.raises(EndpointError, match=r"begins with http|cannot be used"):
            list(Endpoint(nowhere, "m", retries=0).answers(ASKED[:1], GREEDY))
