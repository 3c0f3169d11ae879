"""Models from the hub, served on loopback: pinned, gated, refused, recorded, found without a network."""

# ruff: noqa: F401, F811  (fixtures of tests/tiny_hub.py)

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from prefect.states import Failed

from flows import tasks
from steering_core.concepts import Concept
from steering_core.foundation.errors import HubUnreachable, ModelGated, ModelNotFound, ModelUnsupported
from steering_core.models import Model, model_folder
from steering_core.models.hub import HubModel, hub_model
from steering_core.pipeline.stages import load_model
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick
from tests.hub_server import Hub, Repository
from tests.tiny import save_tiny_model
from tests.tiny_hub import NAME, WEIGHTS, environment, hub, source


def test_a_model_of_the_hub_is_the_model_in_the_folder(hub: Hub, source: Path) -> None:
    assert Model(NAME).identity.model_id == Model(str(source)).identity.model_id


@pytest.mark.parametrize("kind", ["branch", "tag", "commit", "slash"])
def test_a_revision_is_what_is_used(hub: Hub, source: Path, tmp_path: Path, kind: str) -> None:
    repository = hub.repositories[NAME]
    (first,) = repository.commits
    newer = save_tiny_model(tmp_path / "newer", seed=1)
    second = repository.commit(newer, "main")
    names = {"branch": "old", "tag": "v1.0+mlx", "slash": "refs/pr/4"}
    repository.refs |= dict.fromkeys(names.values(), first)
    pinned = Model(f"{NAME}@{names.get(kind, first)}")
    assert (pinned.folder.name, Model(NAME).folder.name) == (first, second)
    assert pinned.identity.name == f"{NAME}@{names.get(kind, first)}"
    assert pinned.identity.model_id == Model(str(source)).identity.model_id != Model(NAME).identity.model_id


def test_a_runs_record_says_which_commit_it_read(hub: Hub, store: Store, tmp_path: Path) -> None:
    (commit,) = hub.repositories[NAME].commits
    with Run(Spec(models=(NAME,), concepts=("sentiment",)), store) as run:
        load_model(run, NAME).close()
        run.finish()
    (row,) = store.rows("SELECT versions, spec FROM runs")
    assert json.loads(row["versions"])[NAME] == commit


def test_a_gated_model_says_how_to_get_it(hub: Hub, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[NAME].token = "good"
    with pytest.raises(ModelGated, match=f"accept its terms at {hub.endpoint}/{NAME}, then .*hf auth login.*HF_TOKEN"):
        model_folder(NAME)
    monkeypatch.setenv("HF_TOKEN", "somebody-else")
    with pytest.raises(ModelGated, match="accept its terms"):
        model_folder(NAME)
    monkeypatch.setenv("HF_TOKEN", "stale")
    with pytest.raises(ModelGated, match="does not accept your token"):
        model_folder(NAME)
    assert hub.served == {}
    monkeypatch.setenv("HF_TOKEN", "good")
    assert model_folder(NAME)
    assert hub.tokens_at_storage == []


@pytest.mark.parametrize("token", [None, "good"])
def test_a_model_that_is_not_there_or_not_to_be_seen(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.repositories["people/secret"] = Repository(private=True, token="other")
    for name in ("people/none", "people/secret"):
        with pytest.raises(ModelNotFound, match=f"no model '{name}'.*spelling.*hf auth login"):
            model_folder(name)


def test_a_revision_that_is_not_there(hub: Hub) -> None:
    for revision in ("v9", "0" * 40):
        with pytest.raises(ModelNotFound, match=f"people/tiny has no revision '{revision}'"):
            model_folder(f"{NAME}@{revision}")


def test_a_whole_snapshot_asks_nobody(hub: Hub) -> None:
    first = model_folder(NAME)
    hub.requests.clear()
    assert model_folder(NAME) == first
    assert hub.requests == []


def test_a_snapshot_of_an_older_client_is_used_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(NAME)
    forget_listing(folder, monkeypatch)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    begun = time.monotonic()
    assert model_folder(NAME) == folder
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network_and_a_snapshot_it_is_one_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    begun = time.monotonic()
    with pytest.raises(HubUnreachable, match=r"people/tiny is not on this machine.*HF_HUB_OFFLINE.*local mlx-lm"):
        model_folder(NAME)
    assert time.monotonic() - begun < 3


def test_pickles_and_gguf_are_refused_before_they_are_downloaded(hub: Hub, source: Path) -> None:
    repository = hub.repositories["people/pickles"] = Repository()
    repository.commit(source)
    (files,) = repository.commits.values()
    del files[WEIGHTS]
    with pytest.raises(ModelUnsupported, match=r"repository people/pickles .*PyTorch pickles \(pytorch_model\.bin\)"):
        model_folder("people/pickles")
    files["tiny-Q4.gguf"] = b"GGUF"
    with pytest.raises(ModelUnsupported, match=r"repository people/pickles .*GGUF \(tiny-Q4\.gguf\).*gguf2mlx"):
        model_folder("people/pickles")
    assert hub.served == {}


@pytest.mark.parametrize(
    ("error", "again"), [(HubUnreachable("later"), True), (ModelGated("terms"), False), (ModelNotFound("none"), False)]
)
def test_a_flow_asks_again_only_for_what_time_mends(error: Exception, again: bool) -> None:
    assert tasks._hub_may_answer_later(None, None, Failed(data=error)) is again


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/b", HubModel("a/b", "main")),
        ("mlx-community/Qwen2.5-0.5B@v1.0", HubModel("mlx-community/Qwen2.5-0.5B", "v1.0")),
        ("a/b@refs/pr/4", HubModel("a/b", "refs/pr/4")),
        ("a/b@", None),
        ("a/b@../../x", None),
        ("a/b@/etc/x", None),
        ("a/b@x//y", None),
        ("../b", None),
        ("a/..", None),
        ("a/b/c", None),
        ("a", None),
        ("https://huggingface.co/a/b", None),
    ],
)
def test_names_of_the_hub(name: str, found: HubModel | None) -> None:
    assert hub_model(name) == found


def test_every_entry_takes_a_revision(hub: Hub, tmp_path: Path, concept: Concept) -> None:
    """The command line, and a whole run of a spec."""
    hub.repositories[NAME].refs["v1"] = next(iter(hub.repositories[NAME].commits))
    name = f"{NAME}@v1"
    said = steer(hub, tmp_path, "generate", name, "Hello", "--max-tokens", "3")
    assert said.returncode == 0, said.stderr
    assert "(100 %)" in said.stderr
    assert "HTTP Request" not in said.stderr
    saved = concept.model_dump(mode="json", exclude_none=True) | {"description": "Loud against quiet."}
    (tmp_path / "loud.yaml").write_text(json.dumps(saved))
    spec = {
        "models": [name],
        "concepts": [str(tmp_path / "loud.yaml")],
        "activations": {"layers": [1]},
        "vectors": {"controls": 1, "quality_draws": 0},
        "generations": {"layers": [1], "doses": [0.3], "prompts": 1, "samples": 1, "max_tokens": 4},
        "scores": quick.SCORES | {"items": 2, "neutral": 1},
    }
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    ran = steer(hub, tmp_path, "run", str(tmp_path / "spec.yaml"), "--json")
    assert ran.returncode == 0, ran.stderr
    assert [row["model"] for row in json.loads(ran.stdout)["recommendations"]] == [name]
    (row,) = Store(tmp_path / "store").rows("SELECT versions FROM runs")
    assert json.loads(row["versions"])[name] == hub.repositories[NAME].refs["v1"]


def steer(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("steer")), *words]
    return subprocess.run(command, env=environment(hub, folder), capture_output=True, text=True, check=False)


def forget_listing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the cache as a client leaves it that keeps no list of a commit's files."""
    from huggingface_hub import _tree_cache

    monkeypatch.setattr(_tree_cache, "_IN_MEMORY_TREE_CACHE", {})
    (folder.parent.parent / "trees" / f"{folder.name}.json").unlink()
