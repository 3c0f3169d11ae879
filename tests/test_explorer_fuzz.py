"""Hostile requests to the explorer's API, drawn with a seed: 200 or 4xx, one paragraph, at once."""

import copy
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.testclient import TestClient

from steering_core.explorer.routes.ask import named_queries
from steering_core.reports.charts.listed import charts_in
from tests.explorer import copied, serving

DRAWN = 300
SECONDS = 10.0
NUMBERS = [True, False, -1, 0, 1.5, 1e30, -1e30, 1e-320, float("nan"), float("inf"), -float("inf"), 2**63, 10**400]
TEXTS = [
    "",
    " ",
    "\0",
    "\ud800",
    "é" * 400,
    "x" * 60_000,
    "../../etc/passwd",
    "'; DROP VIEW models; --",
    "%s{}",
    "1",
    "\n\n",
]
OTHERS: list[Any] = [None, [], {}, [[]], {"a": {}}, [None] * 1000, {str(i): i for i in range(1000)}]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, agree_run: Path) -> Iterator[TestClient]:
    with serving(copied(agree_run, tmp_path_factory.mktemp("fuzz"))) as client:
        yield client


def whole(model: str) -> dict[str, dict[str, Any]]:
    """A request to each path that is right as it is, with every field."""
    steering = {
        "vectors": [
            {"vector": "agree", "dose": 0.4, "operation": "add"},
            {
                "contrast": {"positive": ["yes"], "negative": ["no"], "chat": False, "position": "last"},
                "layers": [1],
                "alpha": 2.0,
            },
        ],
        "phase": "generation",
        "expression": "2*agree",
    }
    drawn = {"model": model, "max_tokens": 2, "temperature": 0.7, "seed": 1, "steering": steering}
    steer = {**drawn, "prompt": "Hello", "system": "Be kind.", "chat": True, "compare": True, "stop": ["."]}
    openai = {
        **drawn, "n": 1, "stream": False, "stop": ["."], "top_p": 0.9, "stream_options": {"include_usage": True},
        "top_k": 5, "min_p": 0.1, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "logit_bias": {"5": 1.0},
        "probes": ["agree"], "response_format": {"type": "text"}, "presence_context_size": 4,
    }  # fmt: skip
    contrast = {"positive": ["yes"], "negative": ["no"], "chat": False, "position": "last"}
    return {
        "/api/steer": steer,
        "/api/command": {**steer, "steering": {**steering, "vectors": steering["vectors"][:1]}},
        "/api/contrasts": {"model": model, "contrast": contrast},
        "/api/vectors": {"model": model, "vector_ids": ["0" * 20], "name": "mine"},
        "/api/sql": {"sql": "SELECT name FROM models", "max_rows": 10},
        "/api/sql/download": {"sql": "SELECT name FROM models", "format": "csv"},
        "/v1/chat/completions": {
            **openai,
            "messages": [{"role": "user", "content": "Hello"}],
            "logprobs": True,
            "top_logprobs": 2,
        },
        "/v1/completions": {**openai, "prompt": ["Hello"], "logprobs": 1, "echo": False},
    }


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a body."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*here, key)
        yield from places(part, (*here, key))


def spoilt(dice: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """The body with one to three things in it replaced, dropped or added."""
    body = copy.deepcopy(body)
    for _ in range(dice.randint(1, 3)):
        *way, last = dice.choice(list(places(body)))
        holder: Any = body
        for step in way:
            holder = holder[step]
        deed = dice.random()
        if deed < 0.1:
            del holder[last]
        elif deed < 0.2 and isinstance(holder, dict):
            holder[dice.choice(TEXTS)] = dice.choice(NUMBERS)
        else:
            holder[last] = copy.deepcopy(dice.choice(dice.choice([NUMBERS, TEXTS, OTHERS])))
        if not body:
            break
    return body


def check(answer: httpx.Response, what: str) -> None:
    assert answer.status_code in (200, 201) or 400 <= answer.status_code < 500, f"{answer.status_code} for {what}"
    said = answer.text
    assert "Traceback" not in said, what
    if answer.status_code >= 400:
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        message = answer.json()["error"]["message"] if is_json else said
        assert message.strip(), what
        assert "\n\n" not in message, what
        assert len(message) <= 2_002, what


def timed(send: Any, what: str) -> None:
    started = time.monotonic()
    check(send(), what)
    assert time.monotonic() - started < SECONDS, what


def test_the_requests_are_right_before_they_are_spoilt(client: TestClient, model: str) -> None:
    for path, body in whole(model).items():
        answer = client.post(path, json=body)
        assert answer.status_code == (404 if path == "/api/vectors" else 200), f"{path}: {answer.text}"
        assert '"error"' not in answer.text or path == "/api/vectors", f"{path}: {answer.text}"


@pytest.mark.parametrize("seed", range(6))
def test_spoilt_bodies_are_answered_in_one_paragraph(client: TestClient, model: str, seed: int) -> None:
    dice = random.Random(seed)
    bodies = whole(model)
    for _ in range(DRAWN // 6):
        path = dice.choice(list(bodies))
        text = json.dumps(spoilt(dice, bodies[path]))
        what = f"seed {seed}: POST {path} {text:.300}"
        headers = {"Content-Type": "application/json"}
        timed(lambda path=path, text=text, headers=headers: client.post(path, content=text, headers=headers), what)


def test_torn_and_nested_bodies_are_answered_in_one_paragraph(client: TestClient, model: str) -> None:
    dice = random.Random(0)
    texts = [
        "",
        "null",
        "1",
        '""',
        "[]",
        "{",
        '{"a":',
        "[" * 100_000,
        '{"a":' * 50_000,
        "1" * 10_000,
        "\ufeff{}",
        "NaN",
    ]
    for path, body in whole(model).items():
        right = json.dumps(body)
        for text in [*texts, right[: dice.randrange(1, len(right) - 1)], right + right]:
            content = text.encode("utf-8", "surrogatepass")
            what = f"POST {path} {text:.80}"
            send = {"content": content, "headers": {"Content-Type": "application/json"}}
            timed(lambda path=path, send=send: client.post(path, **send), what)
        timed(
            lambda path=path: client.post(path, content=b"\xff\xfe{", headers={"Content-Type": "application/json"}),
            path,
        )


def test_addresses_and_parameters_are_answered_in_one_paragraph(client: TestClient) -> None:
    values = [
        "",
        "x",
        "-",
        "--5",
        "5",
        "-5",
        "9" * 19,
        "9" * 400,
        "nan",
        "1e999",
        "\0",
        "é",
        "x" * 5_000,
        "٣",
        "'",
        "²",
    ]
    for name in [*named_queries(), *charts_in("explorer"), "nowhere", "x" * 5_000, "\0"]:
        parameters = named_queries().get(name, {"parameters": ["model_id"]})["parameters"]
        for value in values:
            query = "&".join(f"{quote(p)}={quote(value)}" for p in parameters)
            for kind in ("rows", "charts"):
                url = f"/api/{kind}/{quote(name, safe='')}?{query}"
                timed(lambda url=url: client.get(url), url[:200])
    for path in (
        "/api/vectors?model=",
        "/api/promoted?vector=x&model=",
        "/api/look?model=",
        "/api/nowhere?",
        "/static/",
    ):
        for value in values:
            timed(lambda path=path, value=value: client.get(path + quote(value)), path + value[:50])
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        timed(lambda method=method: client.request(method, "/api/sql"), method)


@pytest.mark.parametrize("path", ["/api/steer", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 1e30), ("max_tokens", True), ("max_tokens", 0), ("max_tokens", 1_000_001), ("max_tokens", "5"),
        ("temperature", True), ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", -1),
        ("seed", True), ("seed", 1.5), ("seed", 2**64),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_by_name_and_value(
    client: TestClient, model: str, path: str, field: str, value: Any
) -> None:
    text = json.dumps({**whole(model)[path], field: value})
    answer = client.post(path, content=text, headers={"Content-Type": "application/json"})
    message = answer.json()["error"]["message"]
    assert answer.status_code == 422, answer.text
    assert message.startswith(f"{field}: Input should be"), message
    assert f"(got {value!r})" in message


@pytest.mark.parametrize("field", ["alpha", "dose"])
@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), 1e30, -1e7, 1e-320, "1"])
def test_a_strength_that_is_none_is_refused(client: TestClient, model: str, field: str, value: Any) -> None:
    body = {"model": model, "prompt": "Hello", "steering": {"vectors": [{"vector": "agree", field: value}]}}
    text = json.dumps(body)
    answer = client.post("/api/steer", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"].startswith(f"steering.vectors.0.{field}: ")
