"""The explorer on a real server: OpenAI's own client, closed tabs, and the shield against others."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.foundation.errors import SteerflowError
from steering_core.store import Store
from tests.explorer import served
from tests.tiny import save_tiny_model

MESSAGES = [{"role": "user", "content": "Hello"}]


# -- OpenAI's own client ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def steered(dose: float) -> dict[str, Any]:
    return {"steering": {"vectors": [{"vector": "agree", "dose": dose}]}}


def test_openais_client_lists_models_and_chats_with_a_steered_one(client: openai.OpenAI, tiny_folder: Path) -> None:
    assert str(tiny_folder) in {model.id for model in client.models.list()}
    same: dict[str, Any] = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 8, "seed": 1}
    plain = client.chat.completions.create(**same)
    zero = client.chat.completions.create(**same, extra_body=steered(0.0))
    pushed = client.chat.completions.create(**same, extra_body=steered(3.0))
    assert plain.choices[0].message.content == zero.choices[0].message.content
    assert pushed.choices[0].message.content != plain.choices[0].message.content
    assert plain.usage is not None
    assert plain.usage.completion_tokens <= 8
    assert plain.choices[0].finish_reason in ("length", "stop")


def test_a_stream_says_what_the_whole_says(client: openai.OpenAI, tiny_folder: Path) -> None:
    same: dict[str, Any] = {"model": str(tiny_folder), "messages": MESSAGES, "max_tokens": 8, "seed": 1, "n": 2}
    whole = client.chat.completions.create(**same, extra_body=steered(1.0))
    texts = {0: "", 1: ""}
    usage = None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(**same, stream=True, stream_options=options, extra_body=steered(1.0)):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert texts[0] != texts[1]
    assert usage == whole.usage


def test_texts_are_completed_too(client: openai.OpenAI, tiny_folder: Path) -> None:
    same: dict[str, Any] = {"model": str(tiny_folder), "prompt": "Once", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(**same)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**same, stream=True))
    assert streamed == whole.choices[0].text


def test_openais_client_understands_our_refusals(client: openai.OpenAI, tiny_folder: Path) -> None:
    with pytest.raises(openai.NotFoundError, match="no vector 'nowhere'"):
        client.chat.completions.create(
            model=str(tiny_folder),
            messages=MESSAGES,
            extra_body={"steering": {"vectors": [{"vector": "nowhere", "dose": 1}]}},
        )
    for arguments, says in (({"date": "soon"}, "write YYYY-MM-DD"), ({"chat_template": "{{ 1 }}"}, "no chat template")):
        with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError), match=says):
            client.chat.completions.create(
                model=str(tiny_folder), messages=MESSAGES, extra_body={"chat_template_kwargs": arguments}
            )
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    with pytest.raises(openai.UnprocessableEntityError, match="top_p"):
        client.chat.completions.create(model=str(tiny_folder), messages=MESSAGES, top_p=1.5)
    as_usual = {"frequency_penalty": 0, "response_format": {"type": "text"}, "user": "somebody"}
    assert client.chat.completions.create(model=str(tiny_folder), messages=MESSAGES, max_tokens=2, **as_usual).choices


# -- who goes away, and who is not let in -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is slow enough to be interrupted."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    return save_tiny_model(folder, {"num_hidden_layers": 12, "hidden_size": 256, "intermediate_size": 1024})


def test_a_closed_tab_frees_its_work(ran: Store, slow: Path) -> None:
    body = {"model": str(slow), "prompt": "Hello", "max_tokens": 400, "chat": False}
    with served(ran, models=[str(slow)]) as address, httpx.Client(base_url=address, timeout=30) as client:
        for wait_for in ("token", "queued"):
            with client.stream("POST", "/api/steer", json=body) as answer:
                next(line for line in answer.iter_lines() if wait_for in line)
            deadline = time.monotonic() + 5
            while (state := client.get("/api/status").json())["running"] + state["waiting"]:
                assert time.monotonic() < deadline, state
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Host": "[::1].evil.com"}, 421),
        ({"Host": "[::1]evil.com"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "["}, 421),
        ({"Host": "::1"}, 421),
        ({"Host": "127.0.0.1:abc"}, 421),
        ({"Host": "127.0.0.1:"}, 421),
        ({"Host": "127.0.0.1:65536"}, 421),
        ({"Host": "127.0.0.1:80:80"}, 421),
        ({"Host": "127.0.0.1/evil.com"}, 421),
        ({"Host": "LocalHost:7860"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": ""}, 421),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_origins_hosts_and_forms_are_refused(address: str, headers: dict[str, str], status: int) -> None:
    wanted = {"Content-Type": "application/json", **headers}
    answer = httpx.post(f"{address}/api/sql", content=b'{"sql": "SELECT 1"}', headers=wanted)
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "site", "mode", "status"),
    [
        ("/api/status", "cross-site", "no-cors", 403),
        ("/api/status", "same-site", "navigate", 403),
        ("/api/status", "none", "navigate", 200),
        ("/api/status", "same-origin", "cors", 200),
        ("/", "cross-site", "navigate", 200),
        ("/", "cross-site", "no-cors", 403),
        ("//", "cross-site", "navigate", 403),
    ],
)
def test_what_other_sites_get_is_a_link_to_the_page(address: str, path: str, site: str, mode: str, status: int) -> None:
    answer = httpx.get(address + path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
    assert answer.status_code == status


def test_two_hosts_are_none(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_large_body_is_refused_with_and_without_its_length(address: str) -> None:
    def endless() -> Iterator[bytes]:
        yield from (b"x" * 65536 for _ in range(64))

    for body in (endless(), b"x" * (2 << 20)):
        answer = httpx.post(f"{address}/api/sql", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413


def test_the_page_may_load_only_what_is_served_here(address: str) -> None:
    answer = httpx.get(address)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/../../etc"])
def test_paths_do_not_lead_out_of_the_static_folder(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


def test_beyond_loopback_a_token_is_demanded(ran: Store) -> None:
    with served(ran, token="secret-token") as address:
        assert httpx.get(f"{address}/api/status").status_code == 401
        assert httpx.get(f"{address}/?token=wrong").status_code == 401
        assert httpx.get(f"{address}/api/status", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{address}/api/status", headers={"Cookie": "steerflow-token=wrong"}).status_code == 401
        bearer = {"Authorization": "Bearer secret-token", "Host": "my-machine:7860"}
        assert httpx.get(f"{address}/api/status", headers=bearer).status_code == 200
        with httpx.Client(base_url=address, follow_redirects=True) as browser:
            assert browser.get("/?token=secret-token").status_code == 200
            assert browser.get("/api/status").status_code == 200
        listed = openai.OpenAI(base_url=f"{address}/v1", api_key="secret-token").models.list()
        assert listed.data


@pytest.mark.parametrize(
    ("host", "said"),
    [("no.such.host.invalid", "--host is an address of this machine"), ("192.0.2.1", "--host is an address")],
)
def test_an_address_of_no_machine_or_of_another_is_told(store: Store, host: str, said: str) -> None:
    done = CliRunner().invoke(app, ["explore", "--no-browser", "--host", host, "--store", str(store.root)])
    assert isinstance(done.exception, SteerflowError)
    assert said in str(done.exception)


def test_a_port_that_is_taken_is_told(store: Store) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = ["explore", "--no-browser", "--port", str(other.getsockname()[1]), "--store", str(store.root)]
        done = CliRunner().invoke(app, words)
    assert "in use. Try --port 0" in str(done.exception)


def test_a_token_with_a_line_break_behind_it_becomes_a_clean_cookie(ran: Store) -> None:
    with served(ran, token="secret-token") as address:
        answer = httpx.get(f"{address}/?token=secret-token%0d%0a")
        assert (answer.status_code, answer.cookies["steerflow-token"]) == (303, "secret-token")
