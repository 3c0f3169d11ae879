"""Folders that are no mlx-lm model: one error each, which says what to do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steering_core.foundation.errors import ModelDamaged, ModelError, ModelNotFound, ModelUnsupported
from steering_core.models import Model
from tests.tiny import save_tiny_model

STEER = Path(sys.executable).with_name("steer")
WEIGHTS = "model.safetensors"


def configured(folder: Path, **changed: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))


def pytorch(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def gguf(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "tiny.gguf")


def gguf_alone(folder: Path) -> None:
    gguf(folder)
    (folder / "config.json").unlink()


def adapter(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapters.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")


def peft_adapter(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def other_name(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "consolidated.safetensors")


def cut_short(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) - 1])


def cut_in_the_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def noise(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 4096)


def pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def shard_missing(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def index_damaged(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")


def configuration_damaged(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def configuration_missing(folder: Path) -> None:
    (folder / "config.json").unlink()


def unknown_architecture(folder: Path) -> None:
    configured(folder, model_type="mind_of_its_own")


def no_architecture(folder: Path) -> None:
    configured(folder, model_type=None)


def module_that_is_no_model(folder: Path) -> None:
    configured(folder, model_type="cache")


def other_shapes(folder: Path) -> None:
    configured(folder, hidden_size=64)


def key_missing(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["num_hidden_layers"]
    (folder / "config.json").write_text(json.dumps(config))


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def tokenizer_damaged(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


FAULTS: dict[Callable[[Path], None], tuple[type[ModelError], str]] = {
    pytorch: (ModelUnsupported, r"PyTorch pickles \(pytorch_model\.bin\).*save_pretrained"),
    gguf: (ModelUnsupported, r"GGUF \(tiny\.gguf\).*python -m gguf2mlx --input .*tiny\.gguf --output"),
    gguf_alone: (ModelUnsupported, r"GGUF file and no mlx-lm model.*gguf2mlx --input .*/tiny\.gguf --output"),
    adapter: (ModelUnsupported, r"an adapter alone.*mlx_lm\.fuse --model MODEL --adapter-path"),
    peft_adapter: (ModelUnsupported, r"an adapter alone \(adapter_model\.safetensors\).*merge_and_unload"),
    no_weights: (ModelUnsupported, r"no weights that mlx-lm reads.*mlx_lm\.convert"),
    other_name: (ModelUnsupported, r"no file model\*\.safetensors.*mlx_lm\.convert"),
    cut_short: (ModelDamaged, r"model\.safetensors is cut short or damaged: it has \d+ bytes.*download it again"),
    cut_in_the_header: (ModelDamaged, r"is cut short or damaged: it has 100 bytes"),
    empty: (ModelDamaged, r"is cut short or damaged: it has 0 bytes"),
    noise: (ModelDamaged, r"is cut short or damaged"),
    pointer: (ModelDamaged, r"a pointer of git-lfs.*git lfs pull"),
    shard_missing: (ModelDamaged, r"lacks model-00002-of-00002\.safetensors, which its .*index\.json lists"),
    index_damaged: (ModelDamaged, r"index\.json holds no JSON object"),
    configuration_damaged: (ModelDamaged, r"config\.json is not JSON"),
    configuration_missing: (ModelNotFound, r"has no config\.json.*mlx_lm\.convert"),
    unknown_architecture: (ModelUnsupported, r"mlx-lm \d.* has no architecture 'mind_of_its_own'.*upgrade mlx-lm"),
    no_architecture: (ModelUnsupported, r"has no architecture None"),
    module_that_is_no_model: (ModelUnsupported, r"has no architecture 'cache'"),
    other_shapes: (ModelUnsupported, r"mlx-lm cannot build the network in .*do not fit each other"),
    key_missing: (ModelUnsupported, r"mlx-lm cannot build the network in .*num_hidden_layers"),
    no_tokenizer: (ModelUnsupported, r"the tokenizer in .* cannot be loaded"),
    tokenizer_damaged: (ModelUnsupported, r"the tokenizer in .* cannot be loaded"),
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda fault: fault.__name__)
def test_a_folder_that_is_no_model_is_one_error(
    tiny_folder: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    spoil(folder)
    kind, says = FAULTS[spoil]
    with pytest.raises(kind, match=says) as told:
        Model(str(folder))
    assert type(told.value) is kind
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("name", "says"), [("tiny.gguf", r"gguf2mlx .*tiny\.gguf"), ("a.safetensors", "folder")])
def test_a_file_is_no_model(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelUnsupported, match=says):
        Model(str(tmp_path / name))


def test_a_pipe_is_no_model_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelUnsupported, match="name the folder"):
        Model(str(tmp_path / "pipe"))


def test_a_folder_in_the_place_of_weights_is_one_error(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(ModelDamaged, match="cannot be read"):
        Model(str(folder))


def test_a_sharded_model_is_loaded(tmp_path: Path) -> None:
    from steering_core.backend.mlx import mx

    folder = save_tiny_model(tmp_path / "model")
    weights = mx.load(str(folder / WEIGHTS))
    names = sorted(weights)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, held in shards.items():
        mx.save_safetensors(str(folder / shard), {name: weights[name] for name in held})
    (folder / WEIGHTS).unlink()
    index = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with Model(str(folder)) as model:
        assert model.identity.n_layers == 4


def test_damage_after_the_first_use_is_told(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    Model(str(folder)).close()
    cut_short(folder)
    with pytest.raises(ModelDamaged):
        Model(str(folder))


@pytest.mark.parametrize("spoil", [pytorch, cut_short, unknown_architecture], ids=lambda fault: fault.__name__)
def test_the_command_line_says_it_in_one_paragraph(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = save_tiny_model(tmp_path / "model")
    spoil(folder)
    ended = subprocess.run([STEER, "generate", folder, "Hello"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert FAULTS[spoil][0].__name__ in ended.stderr
    assert "Traceback" not in ended.stderr
