"""Downloads from a hub on loopback: once, told of, continued where they broke off, checked, stopped by a full disk."""

# ruff: noqa: F401, F811  (fixtures of tests/tiny_hub.py)

import errno
import logging
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub.hf_api import BlobLfsInfo

from steering_core.foundation.errors import DiskFull, HubUnreachable
from steering_core.models import hub as hub_module
from steering_core.models import model_folder
from tests.hub_server import Hub
from tests.tiny_hub import NAME, WEIGHTS, environment, hub, source


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


def test_a_snapshot_with_a_file_gone_is_completed(hub: Hub, source: Path) -> None:
    folder = model_folder(NAME)
    (folder / WEIGHTS).resolve().unlink()
    (folder / WEIGHTS).unlink()
    assert (model_folder(NAME) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()


def test_a_checksum_that_is_a_path_names_no_file() -> None:
    assert hub_module._over_http(BlobLfsInfo(size=1, sha256="a" * 64, pointer_size=1))
    assert not hub_module._over_http(BlobLfsInfo(size=1, sha256="../" * 20 + "aaaa", pointer_size=1))
    assert not hub_module._over_http(BlobLfsInfo(size=10**11, sha256="a" * 64, pointer_size=1))


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
