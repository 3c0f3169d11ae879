"""Flow runs that crashed outside of any sweep: which are named, and with which words they are begun again."""

import json
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.service.crashes import MOST, crashed_alone, run_command

DISCOVER = {"id": "d", "name": "discover-vectors"}


def run(name: str, day: int, **changed: Any) -> dict[str, Any]:
    """A flow run of discover-vectors that ended on that day."""
    given = {"spec": "quickstart", "concepts": ["it's"], "store": None}
    row = {"name": name, "deployment_id": "d", "tags": [], "parameters": given, "end_time": f"2026-11-{day:02}T02:00Z"}
    return row | changed


def server(crashed: list[dict[str, Any]], completed: list[dict[str, Any]]) -> httpx.Client:
    """A server that knows these flow runs, and one deployment."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/deployments/filter":
            return httpx.Response(200, json=[DISCOVER])
        (state,) = json.loads(request.content)["flow_runs"]["state"]["type"]["any_"]
        rows = {"CRASHED": crashed, "COMPLETED": completed}[state]
        return httpx.Response(200, json=sorted(rows, key=lambda row: row["end_time"], reverse=True))

    return httpx.Client(base_url="http://x", transport=httpx.MockTransport(answer))


def test_a_crash_outside_of_a_sweep_is_named_with_what_begins_it_again() -> None:
    others = [run("of a sweep", 3, tags=["sweep:nightly-1"]), run("of no deployment", 3, deployment_id=None)]
    (line,) = crashed_alone(server([run("mine", 3), run("mine", 2), *others], []))
    name, _, typed = line.partition(": ")
    assert name == "mine"
    *_, deployment, option, parameters = shlex.split(typed)
    assert (deployment, option) == ("discover-vectors", "--params")
    assert json.loads(parameters) == {"spec": "quickstart", "concepts": ["it's"]}


def test_one_that_completed_since_is_left_out_and_one_that_had_completed_before_is_not() -> None:
    crashed = [run("mended", 3), run("broken", 3)]
    completed = [run("mended", 4), run("mended", 1), run("broken", 2)]
    assert [line.split(":")[0] for line in crashed_alone(server(crashed, completed))] == ["broken"]


def test_the_newest_few_are_named_and_the_others_counted() -> None:
    lines = crashed_alone(server([run(f"run {day}", day) for day in range(1, 10)], []))
    assert [line.split(":")[0] for line in lines] == [*(f"run {9 - n}" for n in range(MOST)), "and 4 more on the page"]


def test_what_is_printed_can_be_typed_where_the_clone_keeps_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prefect` finds the server of another folder of state by PREFECT_PROFILES_PATH alone."""
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    monkeypatch.delenv("STEERFLOW_STATE", raising=False)
    assert run_command() == ".venv/bin/prefect deployment run"
    monkeypatch.setenv("STEERFLOW_STATE", str(tmp_path / "a state"))
    profiles = tmp_path / "a state" / "prefect" / "profiles.toml"
    assert run_command() == f"PREFECT_PROFILES_PATH='{profiles}' .venv/bin/prefect deployment run"
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    assert run_command() == ".venv/bin/prefect deployment run"
