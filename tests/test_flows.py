"""The flow: its stages are tasks, a second run is cached, and bare deployment names are completed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import prefect_plugin
from flows.discover_vectors import chosen_spec, discover_vectors
from steering_core.concepts import Concept
from steering_core.errors import SpecError


@pytest.fixture
def prefect_server(machine: dict[str, str]) -> Iterator[None]:
    """The session's server, for flows that run in this process."""
    with temporary_settings({PREFECT_API_URL: machine["PREFECT_API_URL"], PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def states_of(state: Any) -> dict[str, str]:
    """Name of every task run of a flow run, with its state's name."""
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        runs = client.read_task_runs(flow_run_filter=wanted)
    return {run.name: run.state_name or "" for run in runs}


@pytest.mark.server
def test_discover_runs_as_tasks_and_is_cached_the_second_time(
    prefect_server: None, tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    (tmp_path / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    spec = {"models": ["nowhere"], "concepts": [str(tmp_path / "loud.yaml")], "generations": grid}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    given = {"spec": str(tmp_path / "spec.yaml"), "models": [str(tiny_folder)], "store": str(tmp_path / "store")}
    first, second = (discover_vectors(**given, return_state=True) for _ in range(2))
    assert first.is_completed()
    stages = ("extract", "derive", "generate", "score")
    assert all(s == "Completed" for name, s in states_of(first).items() if name.startswith(stages))
    cached = {name: s for name, s in states_of(second).items() if name.startswith(stages)}
    assert len(cached) == 6
    assert set(cached.values()) == {"Cached"}
    assert second.result()["recommendations"] == first.result()["recommendations"]


def test_parameters_take_the_place_of_the_specs() -> None:
    spec = chosen_spec("quickstart", ["m"], ["c"])
    assert (spec.models, spec.concepts) == (("m",), ("c",))
    assert chosen_spec("quickstart", None, None).models == ("smollm2-135m",)
    with pytest.raises(SpecError):
        chosen_spec("no-such-spec", None, None)


@pytest.mark.parametrize(
    ("typed", "found", "becomes"),
    [
        ("deployment run discover-vectors", ["discover-vectors/discover-vectors"], "discover-vectors/discover-vectors"),
        ("deployment run twice", ["a/twice", "b/twice"], "twice"),
        ("deployment run nowhere", [], "nowhere"),
    ],
)
def test_a_bare_name_is_completed_where_one_deployment_has_it(
    monkeypatch: pytest.MonkeyPatch, typed: str, found: list[str], becomes: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["prefect", *typed.split()])
    monkeypatch.setattr(prefect_plugin, "_full_names", lambda api_url, name: found)
    context = prefect_plugin.HookContext("3", "http://127.0.0.1:1/api", lambda name: None)  # type: ignore[arg-type,return-value]
    assert prefect_plugin.setup_environment(ctx=context) is None
    assert sys.argv[3] == becomes


@pytest.mark.parametrize("typed", ["deployment ls", "deployment run a/b", "deployment run --id 7", "server start", ""])
def test_other_commands_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    argv = ["prefect", *typed.split()]
    monkeypatch.setattr(sys, "argv", list(argv))
    monkeypatch.setattr(prefect_plugin, "_full_names", lambda api_url, name: ["x/y"])
    context = prefect_plugin.HookContext("3", "http://127.0.0.1:1/api", lambda name: None)  # type: ignore[arg-type,return-value]
    prefect_plugin.setup_environment(ctx=context)
    assert sys.argv == argv


def test_a_server_that_does_not_answer_leaves_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prefect_plugin._full_names("http://127.0.0.1:9/api", "discover-vectors") == []
