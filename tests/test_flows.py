"""The flow: its stages are tasks, a second run is cached, and bare deployment names are completed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.utilities.names import generate_slug

from flows import asked, prefect_plugin
from flows.asked import asked_spec, chosen_spec, described, was_drawn
from flows.calibrate_alpha import calibrate_alpha
from flows.discover_vectors import discover_vectors
from flows.service.clone import speaking_to
from flows.sweep import nightly_sweep
from flows.sweep_layers import sweep_layers
from flows.tasks import as_task
from steering_core.concepts import Concept
from steering_core.foundation.errors import SpecError
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick
from tests.machine import ROOT, address_of


@pytest.fixture
def prefect_server(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The suite's server, for flows that run in this process; they wait for no flow of this user's."""
    monkeypatch.setenv("STEERFLOW_CACHE", machine["STEERFLOW_CACHE"])
    with speaking_to(address_of(machine)), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
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
    spec = {"models": ["nowhere"], "concepts": [str(tmp_path / "loud.yaml")], "generations": grid, **quick.SPEC}
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


class Unread(list[int]):
    """A list that nobody reads."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("the cells of a grid were visited")


@pytest.mark.server
def test_a_task_takes_the_cells_of_a_grid_without_a_look_inside(
    prefect_server: None, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect would look for futures in every cell, twice for each task run."""

    def counted(run: Run, cells: Sequence[int], *, seeds: Sequence[int]) -> tuple[int, int]:
        return len(cells), len(seeds)

    spec = Spec(models=("m",), concepts=("c",))
    with Run(spec, store) as run:
        asked = flow(lambda: as_task("count for {run.spec.name}", counted)(run, Unread([1, 2]), seeds=Unread([3])))
        assert asked() == (2, 1)


def test_parameters_take_the_place_of_the_specs() -> None:
    spec = chosen_spec("quickstart", ["m"], ["c"])
    assert (spec.models, spec.concepts) == (("m",), ("c",))
    assert chosen_spec("quickstart", None, None).models == ("smollm2-135m",)
    with pytest.raises(SpecError):
        chosen_spec("no-such-spec", None, None)


@pytest.mark.parametrize(
    ("models", "concepts", "says"),
    [
        (["nope", "smollm2-135"], None, "(?s)no model 'nope': there are: .*did you mean 'smollm2-135m'"),
        (["a/b"], ["formalty"], "no concept 'formalty': did you mean 'formality'"),
        (None, ["/nowhere/loud.yaml"], "no such file is seen from"),
        (["a/b", "a/b"], None, "models: 'a/b' stands here twice: name it once"),
        (None, ["formality", ""], "concepts, entry 2: "),
    ],
)
def test_a_name_among_the_parameters_that_means_nothing_is_refused_before_anything_is_computed(
    models: list[str] | None, concepts: list[str] | None, says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        asked_spec("quickstart", models, concepts)


def test_what_may_be_meant_is_left_to_the_run() -> None:
    assert asked_spec("quickstart", ["a/b"], ["formality"]) == chosen_spec("quickstart", ["a/b"], ["formality"])
    assert asked_spec("quickstart", None, ["/theirs/loud.yaml"], paths=False).concepts == ("/theirs/loud.yaml",)


@pytest.mark.parametrize("asked_for", [nightly_sweep, calibrate_alpha, sweep_layers, discover_vectors])
def test_every_flow_refuses_a_misspelt_model_at_its_very_start(asked_for: Any, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no model 'nope'"):
        asked_for.fn(models=["nope"], store=str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


FORMS = sweep_layers.parameters.properties


def named(monkeypatch: pytest.MonkeyPatch, typed: str, names: list[str]) -> list[str]:
    """What the plug-in makes of a command line, where a server has these deployments."""
    monkeypatch.setattr(sys, "argv", ["prefect", *typed.split()])
    monkeypatch.setattr(prefect_plugin, "_deployments", lambda api_url: dict.fromkeys(names, FORMS))
    context = prefect_plugin.HookContext("3", "http://127.0.0.1:1/api", lambda name: None)  # type: ignore[arg-type,return-value]
    assert prefect_plugin.setup_environment(ctx=context) is None
    return sys.argv[1:]


def test_a_bare_name_is_completed_where_one_deployment_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["discover-vectors/discover-vectors", "a/twice", "b/twice"]
    assert named(monkeypatch, "deployment run discover-vectors", names)[2] == "discover-vectors/discover-vectors"
    with pytest.raises(SystemExit, match="Several deployments are called 'twice': give one of a/twice, b/twice"):
        named(monkeypatch, "deployment run twice", names)
    with pytest.raises(SystemExit, match="no deployment 'xyz': there are: discover-vectors, twice, twice"):
        named(monkeypatch, "deployment run xyz", names)


def test_the_plugin_loads_while_prefect_is_imported_for_the_service() -> None:
    """Prefect loads it in the midst of its own import, when a module of the service may be half there."""
    command = [sys.executable, "-c", "import flows.service.clone"]
    environment = os.environ | {"PREFECT_PLUGINS_ENABLED": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistyped_full_name_is_told_as_a_bare_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as Prefect tells it, with a traceback's worth of words and no suggestion."""
    with pytest.raises(SystemExit, match="no deployment 'f/discover-vector': did you mean 'f/discover-vectors'"):
        named(monkeypatch, "deployment run f/discover-vector", ["f/discover-vectors", "f/nightly-sweep"])


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--param spec=quickstat", "no spec 'quickstat': did you mean 'quickstart'"),
        ('-p spec="nowhere.yaml"', "no spec 'nowhere.yaml': no such file is seen from"),
        ('--param=concepts=["formalty"]', "no concept 'formalty': did you mean 'formality'"),
        ('--params {"spec":"x","models":["m"]}', "no spec 'x': there are:"),
    ],
)
def test_a_spec_or_concept_that_is_not_there_is_refused_before_it_is_queued(
    monkeypatch: pytest.MonkeyPatch, typed: str, says: str
) -> None:
    with pytest.raises(SystemExit, match=says):
        named(monkeypatch, f"deployment run x {typed}", ["f/x"])


@pytest.mark.parametrize(
    "typed",
    ["-p spec=quickstart", '-p concepts=["formality","hub:a/b","tests"]', "--param damage=0.2", "--params [", "-p"],
)
def test_other_parameters_are_left_to_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str) -> None:
    (tmp_path / "mine.yaml").write_text("")
    known = typed.replace('"tests"', f'"{tmp_path}/mine.yaml"')
    assert named(monkeypatch, f"deployment run x {known}", ["f/x"])[2:] == ["f/x", *known.split()]


def test_another_machines_server_may_have_other_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prefect", "deployment", "run", "x", "-p", "spec=theirs"])
    monkeypatch.setattr(prefect_plugin, "_deployments", lambda api_url: {"f/x": FORMS})
    context = prefect_plugin.HookContext("3", "http://10.0.0.5:4200/api", lambda name: None)  # type: ignore[arg-type,return-value]
    assert prefect_plugin.setup_environment(ctx=context) is None


@pytest.mark.parametrize("typed", ["deployment ls", "deployment run --id 7", "server start", ""])
def test_other_commands_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    assert named(monkeypatch, typed, ["x/y"]) == typed.split()


def test_a_server_that_does_not_answer_is_told_with_the_way_out() -> None:
    with pytest.raises(SystemExit, match=r"No Prefect server answers at http://127.0.0.1:9/api .*`make up`"):
        prefect_plugin._known("http://127.0.0.1:9/api")
    with pytest.raises(SystemExit, match="No Prefect server is known here: `make up`"):
        prefect_plugin._known(None)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"spec": "quickstart"}, "calibrate-alpha: sentiment on smollm2-135m (quickstart)"),
        (
            {"spec": "quickstart", "models": ["org/big-7b"], "concepts": ["/x/loud.yaml", "a", "b", "c", "d"]},
            "calibrate-alpha: loud, a, b and 2 more on big-7b (quickstart)",
        ),
        ({"spec": "/x/no-such.yaml"}, "calibrate-alpha: no-such"),
    ],
)
def test_a_runs_name_says_concepts_and_models(parameters: dict[str, Any], name: str) -> None:
    assert described("calibrate-alpha", parameters) == name


def test_a_name_that_prefect_drew_is_known_from_one_that_was_given() -> None:
    assert all(was_drawn(generate_slug(2)) for _ in range(500))
    assert not any(was_drawn(name) for name in ("night-run", "my run", "sentiment", "try-2", "wine-oyster-again"))


def test_files_of_methods_run_where_the_service_allows_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are compared after links are followed, so no link leads out of one."""
    inside, outside = tmp_path / "allowed" / "mine.py", tmp_path / "other.py"
    inside.parent.mkdir()
    source = "from steering_core.vectors.methods import method\n@method\ndef {}(a, b):\n    return a.mean(0)\n"
    inside.write_text(source.format("allowed_method"))
    outside.write_text(source.format("outside_method"))
    (inside.parent / "link.py").symlink_to(outside)
    monkeypatch.setattr(asked, "is_deployed", lambda: True)

    def load(method: str) -> None:
        spec = {"models": ["m"], "concepts": ["c"], "vectors": {"methods": [method]}}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        chosen_spec(str(tmp_path / "spec.yaml"), None, None)

    monkeypatch.setenv("STEERFLOW_METHOD_FOLDERS", str(inside.parent))
    load(f"{inside}:allowed_method")
    for refused in (f"{outside}:outside_method", f"{inside.parent / 'link.py'}:outside_method"):
        with pytest.raises(SpecError, match="which this service refuses"):
            load(refused)
    monkeypatch.delenv("STEERFLOW_METHOD_FOLDERS")
    with pytest.raises(SpecError, match="which this service refuses"):
        load(f"{inside}:allowed_method")
    monkeypatch.setattr(asked, "is_deployed", lambda: False)
    load(f"{outside}:outside_method")
