"""What a model's folder holds, looked at before anything loads it: each fault is one error with its remedy."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steering_core.foundation.errors import ModelDamaged, ModelNotFound, ModelUnsupported

WEIGHTS = "model*.safetensors"
INDEX = "model.safetensors.index.json"
_PYTORCH = (".bin", ".pt", ".pth", ".ckpt")
_LFS_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # of the safetensors format


def checked_folder(folder: Path) -> Path:
    """`folder`, if its configuration can be read and its weights are there as a whole, by the files' headers alone.

    Raises ModelNotFound for a folder that holds no model, ModelUnsupported for weights that MLX does not read,
    ModelDamaged for a file that is cut short, missing or not to be read.
    """
    if not folder.is_dir():
        raise _a_file(folder)
    try:
        return _checked(folder)
    except OSError as error:
        raise ModelDamaged(f"{folder} cannot be read ({error}): mend its files or their permissions") from error


def _checked(folder: Path) -> Path:
    names = sorted(entry.name for entry in folder.iterdir())
    if "config.json" not in names:
        raise _no_configuration(folder, names)
    read_object(folder / "config.json")
    refuse_without_weights(names, str(folder))
    shards = sorted(folder.glob(WEIGHTS))
    if INDEX in names:
        _refuse_missing_shards(folder, {shard.name for shard in shards})
    for shard in shards:
        _refuse_cut_short(shard)
    return folder


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises ModelDamaged where it holds something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelDamaged(f"{file} is not JSON ({str(error)[:200]}): copy or download it again") from error
    if not isinstance(found, dict):
        raise ModelDamaged(f"{file} holds no JSON object: copy or download it again")
    return found


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name) else None


def refuse_without_weights(names: Iterable[str], what: str) -> None:
    """Raise ModelUnsupported, with what to do, unless weights that mlx-lm reads are among the files' names."""
    names = list(names)
    if any(Path(name).match(WEIGHTS) and "/" not in name for name in names):
        return
    found = next((name for name in names if name.endswith(".gguf")), None)
    if found:
        raise ModelUnsupported(
            f"{what} holds its weights as GGUF ({found}), which mlx-lm does not load: {_gguf(found)}"
        )
    if adapter := _adapter(names):
        raise ModelUnsupported(f"{what} holds an adapter alone ({adapter}): {_FUSE}")
    found = next((name for name in names if name.endswith(_PYTORCH)), None)
    if found:
        raise ModelUnsupported(
            f"{what} holds its weights as PyTorch pickles ({found}), which steerflow never opens: take a repository "
            "with safetensors, or write them once with transformers, "
            "AutoModelForCausalLM.from_pretrained(THIS).save_pretrained(FOLDER), and the tokenizer in the same way"
        )
    raise ModelUnsupported(
        f"{what} holds no weights that mlx-lm reads: there is no file {WEIGHTS}. Make such a folder with "
        "`mlx_lm.convert --hf-path MODEL --mlx-path FOLDER`, and name it"
    )


_FUSE = (
    "fuse it with the model that it was trained on, "
    "`mlx_lm.fuse --model MODEL --adapter-path ADAPTER --save-path FOLDER`, and name that folder "
    "(one of PEFT: merge_and_unload, then save_pretrained)"
)


def _gguf(file: str) -> str:
    return f"turn it into an mlx-lm folder, `python -m gguf2mlx --input {file} --output FOLDER`, and name that"


def _adapter(names: Iterable[str]) -> str | None:
    return next(
        (name for name in names if Path(name).name.startswith("adapter") and name.endswith(".safetensors")), None
    )


def _a_file(file: Path) -> ModelUnsupported:
    if file.suffix == ".gguf":
        return ModelUnsupported(f"{file} is a GGUF file, which mlx-lm does not load: {_gguf(str(file))}")
    return ModelUnsupported(
        f"{file} is a file, and a model is a folder with config.json, {WEIGHTS} and a tokenizer: name the folder"
    )


def _no_configuration(folder: Path, names: list[str]) -> ModelNotFound | ModelUnsupported:
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    if gguf:
        return ModelUnsupported(f"{folder} holds a GGUF file and no mlx-lm model: {_gguf(str(folder / gguf))}")
    if _adapter(names) or "adapter_config.json" in names:
        return ModelUnsupported(f"{folder} holds an adapter alone: {_FUSE}")
    return ModelNotFound(
        f"{folder} has no config.json: it is not an mlx-lm model folder; `mlx_lm.convert --hf-path MODEL --mlx-path "
        "FOLDER` makes one"
    )


def _refuse_missing_shards(folder: Path, there: set[str]) -> None:
    listed = read_object(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict):
        raise ModelDamaged(f"{folder / INDEX} has no weight_map: copy or download it again")
    if missing := sorted({str(name) for name in listed.values()} - there):
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelDamaged(
            f"{folder} lacks {named}, which its {INDEX} lists: copy or download what is missing into the folder"
        )


def _refuse_cut_short(file: Path) -> None:
    """Raise ModelDamaged unless the file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as handle:
        start = handle.read(8)
        length = int.from_bytes(start, "little")
        header = handle.read(length) if 8 + length <= min(size, _LONGEST_HEADER) else b""
    if start == _LFS_POINTER[:8]:
        raise ModelDamaged(f"{file} is a pointer of git-lfs, and no weights: run `git lfs pull` in its folder")
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        whole = size >= 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ModelDamaged(
            f"{file} is cut short or damaged: it has {size} bytes, which do not hold what its header promises; copy or "
            "download it again"
        )
