"""Models from the hub, served on loopback: downloaded, continued, pinned, refused, found without a network."""

import errno
import json
import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import BlobLfsInfo
from prefect.states import Failed

from flows import tasks
from steering_core.concepts import Concept
from steering_core.foundation.errors import DiskFull, HubUnreachable, ModelGated, ModelNotFound, ModelUnsupported
from steering_core.models import Model, model_folder
from steering_core.models import hub as hub_module
from steering_core.models.hub import HubModel, hub_model
from steering_core.pipeline.stages import load_model
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick
from tests.hub_server import Hub, Repository, hub_server
from tests.tiny import save_tiny_model

NAME = "people/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people upload: a tiny model, with files that mlx-lm does not need."""
    folder = save_tiny_model(tmp_path_factory.mktemp("source") / "tiny", {"intermediate_size": 512})
    (folder / "README.md").write_text("a card")
    (folder / "modeling_tiny.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"weights again, as a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"weights again, in one")
    return folder


@pytest.fixture
def hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the tiny model, and an empty cache on this machine."""
    with hub_server() as served:
        served.repositories[NAME] = Repository()
        served.repositories[NAME].commit(source)
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        address = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_module, "PAUSE_SECONDS", 0.01)
        monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "steerflow"))
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def size(source: Path) -> int:
    return (source / WEIGHTS).stat().st_size


def test_only_what_mlx_lm_needs_is_fetched(hub: Hub, source: Path) -> None:
    folder = model_folder(NAME)
    names = {file.name for file in folder.iterdir()}
    assert names == {"config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for name in names)
    assert hub.served == {WEIGHTS: size(source)}
    assert not hub.asked_for("xet")


def test_two_at_once_download_once(hub: Hub, source: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(model_folder, [NAME, NAME])
    assert first == second
    assert hub.served == {WEIGHTS: size(source)}


def test_a_model_of_the_hub_is_the_model_in_the_folder(hub: Hub, source: Path) -> None:
    assert Model(NAME).identity.model_id == Model(str(source)).identity.model_id


def test_progress_is_told_in_bytes(hub: Hub, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model_folder(NAME)
    assert "downloading people/tiny" in caplog.text
    last = [message for message in caplog.messages if message.startswith("people/tiny: ")][-1]
    assert re.fullmatch(r"people/tiny: (.+) of \1 \(100 %\), .+ a second", last)


def test_progress_is_told_again_and_again(
    hub: Hub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        model_folder(NAME)
    shown = [int(m.split("(")[1].split(" ")[0]) for m in caplog.messages if m.startswith("people/tiny: ")]
    assert len(shown) > 2
    assert shown == sorted(shown)


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_connection_goes_on_where_it_ended(hub: Hub, source: Path, reset: bool) -> None:
    hub.cut_after, hub.reset = [20_000, 30_000], reset
    folder = model_folder(NAME)
    assert (folder / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert hub.ranges == ["", "bytes=20000-", "bytes=50000-"]
    assert hub.served[WEIGHTS] == size(source)


def test_a_server_that_forgets_ranges_gives_the_right_file(hub: Hub, source: Path) -> None:
    hub.cut_after, hub.ignores_ranges = [20_000], True
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert hub.served[WEIGHTS] == size(source) + 20_000


def test_a_connection_that_brings_nothing_is_given_up_and_the_next_try_goes_on(hub: Hub, source: Path) -> None:
    hub.cut_after = [20_000] + [0] * hub_module.TRIES
    with pytest.raises(HubUnreachable, match="goes on where a download broke off"):
        model_folder(NAME)
    assert model_folder(NAME)
    assert hub.ranges[-1] == "bytes=20000-"
    assert hub.served[WEIGHTS] == size(source)


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.statuses = [503, 429]
    assert model_folder(NAME)
    assert hub.statuses == []


def test_a_file_that_was_damaged_on_its_way_is_not_kept(hub: Hub, source: Path) -> None:
    hub.damages = True
    with pytest.raises(HubUnreachable, match=r"model\.safetensors arrived with checksum .* try again"):
        model_folder(NAME)
    hub.damages = False
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()


def test_a_killed_download_goes_on_in_the_next_process(hub: Hub, source: Path, tmp_path: Path) -> None:
    hub.cut_after = [20_000] + [0] * 1000
    patient = "import steering_core.models.hub as hub; hub.PAUSE_SECONDS, hub.TRIES = 0.01, 10**6"
    command = [sys.executable, "-c", f"{patient}; hub.snapshot(hub.HubModel('people/tiny'))"]
    child = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.PIPE)
    try:
        until(lambda: len(hub.ranges) > 3)
    finally:
        child.kill()
        child.communicate()
    hub.cut_after, hub.ranges = [], []
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert hub.ranges == ["bytes=20000-"]
    assert hub.served[WEIGHTS] == size(source)


def test_a_full_disk_leaves_nothing_broken_and_the_next_try_goes_on(hub: Hub, source: Path, tmp_path: Path) -> None:
    limit = 65_536

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [str(Path(sys.executable).with_name("steer")), "generate", NAME, "Hello"]
    ended = subprocess.run(
        command, env=environment(hub, tmp_path), preexec_fn=full, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "DiskFull" in ended.stderr
    assert "goes on where the download broke off" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    hub.ranges = []
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert hub.ranges == [f"bytes={limit}-"]


def test_a_disk_that_is_too_small_is_told_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = hub_module.shutil.disk_usage("/")
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFull, match=r"people/tiny needs .* more, and .* has room for 1\.0 kB.*HF_HOME"):
        model_folder(NAME)
    assert hub.served == {}


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, OSError)])
def test_a_full_disk_is_told_from_a_broken_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, number: int, told: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, "said by the kernel")

    monkeypatch.setattr(hub_module._Large, "_append", broken)
    with pytest.raises(told) as raised:
        model_folder(NAME)
    assert type(raised.value) is told


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


def test_a_snapshot_with_a_file_gone_is_completed(hub: Hub, source: Path) -> None:
    folder = model_folder(NAME)
    (folder / WEIGHTS).resolve().unlink()
    (folder / WEIGHTS).unlink()
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()


def test_a_checksum_that_is_a_path_names_no_file() -> None:
    assert hub_module._over_http(BlobLfsInfo(size=1, sha256="a" * 64, pointer_size=1))
    assert not hub_module._over_http(BlobLfsInfo(size=1, sha256="../" * 20 + "aaaa", pointer_size=1))
    assert not hub_module._over_http(BlobLfsInfo(size=10**11, sha256="a" * 64, pointer_size=1))


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


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """That of a process of its own with the same hub and the same caches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "STEERFLOW_"))}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_HOME": str(folder / "home"),
        "STEERFLOW_CACHE": str(folder / "steerflow"),
        "STEERFLOW_STORE": str(folder / "store"),
    }


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def forget_listing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the cache as a client leaves it that keeps no list of a commit's files."""
    from huggingface_hub import _tree_cache

    monkeypatch.setattr(_tree_cache, "_IN_MEMORY_TREE_CACHE", {})
    (folder.parent.parent / "trees" / f"{folder.name}.json").unlink()
