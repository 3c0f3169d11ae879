"""The command that the page copies draws the text that the page shows."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.explorer.command import Command
from steering_core.store import Store, commands
from tests.explorer import events

CONTRAST = {"positive": ["I love it!", "Great."], "negative": ["I hate it.", "Awful."]}


@pytest.fixture
def wanted(tiny_folder: Path) -> dict[str, Any]:
    return {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 8, "seed": 3, "temperature": 0.7}


def shown(client: TestClient, wanted: dict[str, Any]) -> str:
    """The steered text that the page shows."""
    return "".join(e["text"] for e in events(client, "/api/steer", wanted) if e["event"] == "token" and e["row"] == 1)


def printed(line: str) -> str:
    """What the command says, as JSON: a terminal would not be sent control characters."""
    program, verb, *words = shlex.split(line)
    assert program == "steer"
    result = CliRunner().invoke(app, [verb, "--format", "json", "--compare", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    text: str = json.loads(result.stdout)[-1]["text"]
    return text


def keys(client: TestClient, wanted: dict[str, Any]) -> dict[int, str]:
    listed = client.get("/api/vectors", params={"model": wanted["model"]}).json()
    return {row["layer"]: row["vector_id"] for row in listed}


@pytest.mark.parametrize(
    ("change", "uses", "phase"),
    [
        ({}, [(1, {"dose": 1.2345678901})], "generation"),
        ({"seed": 2**32 - 1, "temperature": 1.23456789}, [(1, {"dose": -0.07}), (2, {"alpha": 3.5})], "all"),
        ({"chat": False, "system": "Be 'brief'."}, [(2, {"alpha": 0.5, "operation": "ablate"})], "generation"),
        ({"system": "You shout.", "prompt": 'it\'s\n"so" $HOME'}, [(1, {"dose": 2, "operation": "clamp"})], "all"),
        ({"prompt": "--help me", "temperature": 0}, [(2, {"alpha": -50, "operation": "rotate"})], "generation"),
        ({"temperature": 0}, [(1, {"dose": 0.75, "operation": "replace"})], "generation"),
        ({"stop": ["e", "-"], "max_tokens": 40}, [], "generation"),
    ],
)
def test_the_copied_command_prints_the_text_that_is_shown(
    client: TestClient, wanted: dict[str, Any], change: dict[str, Any], uses: list[tuple[int, Any]], phase: str
) -> None:
    key = keys(client, wanted)
    vectors = [{"vector": key[layer], **use} for layer, use in uses]
    body = {**wanted, **change, "steering": {"vectors": vectors, "phase": phase}}
    made = client.post("/api/command", json=body).json()
    assert shlex.split(made["line"]) == made["words"]
    assert printed(made["line"]) == shown(client, body)
    if vectors:
        same = {**body, "steering": {"expression": made["expression"]}}
        assert shown(client, same) == shown(client, body)
        assert shown(client, body) != shown(client, {**body, "steering": {}})


def test_a_typed_contrast_is_copied_once_it_is_saved(client: TestClient, wanted: dict[str, Any]) -> None:
    wanted["steering"] = {"vectors": [{"contrast": CONTRAST, "layers": [1, 2], "dose": 0.8}]}
    refused = client.post("/api/command", json=wanted)
    assert refused.status_code == 404
    assert "save the typed contrast first" in refused.json()["error"]["message"]
    drafts = client.post("/api/contrasts", json={"model": wanted["model"], "contrast": CONTRAST}).json()
    ids = [draft["vector_id"] for draft in drafts if draft["layer"] in (1, 2)]
    assert client.post("/api/vectors", json={"model": wanted["model"], "vector_ids": ids, "name": "mine"}).is_success
    made = client.post("/api/command", json=wanted).json()
    assert made["expression"] == f"80%*{ids[0]} + 80%*{ids[1]}"
    assert printed(made["line"]) == shown(client, wanted)


def test_the_store_is_named_where_the_command_would_take_another(
    client: TestClient, ran: Store, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/api/command", json=wanted).json()["words"][-2:] == ["--store", str(ran.root)]
    monkeypatch.setenv("STEERFLOW_STORE", str(ran.root))  # the server's shell, not that of who copies the command
    assert "--store" in client.post("/api/command", json=wanted).json()["words"]
    monkeypatch.setattr(commands, "DEFAULT_STORE", str(ran.root))
    assert "--store" not in client.post("/api/command", json=wanted).json()["words"]


def test_a_command_is_quoted_for_a_shell() -> None:
    assert (
        Command(("steer", "generate", "m", "it's $HOME; `x`"), "").line == """steer generate m 'it'"'"'s $HOME; `x`'"""
    )
