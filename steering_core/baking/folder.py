"""The folder that is written: beside its place first, under its name when it is whole and proved."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.filesize import decimal

from steering_core.backend.mlx import mx
from steering_core.baking.forms import MODULE_FILE, Form
from steering_core.foundation.errors import DiskFull, OutputError
from steering_core.foundation.user_files import shown_path
from steering_core.models.mlx_lm import write_config, write_weights

_COPIED = (".json", ".jsonl", ".jinja", ".txt", ".tiktoken", ".model", ".py")
_TERMS = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)", re.IGNORECASE)
_NOT_COPIED = ("config.json", "model.safetensors.index.json", "conversion_report.json", "steerflow-manifest.json")
_SPARE = 64 << 20  # bytes beside the weights: tokenizers


@contextlib.contextmanager
def staged(out: Path, source: Path) -> Iterator[Path]:
    """A new folder beside `out`, which takes its name at the end of the `with`, or disappears.

    What a killed process left there goes as well. Raises OutputError where `out` holds anything, or is the model's own
    folder, or cannot be made.
    """
    target = Path(os.path.realpath(out))
    _check_place(target, source, out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        folder = target.with_name(f".{target.name}.baking-{os.getpid()}")
        folder.mkdir()
    except (OSError, ValueError) as fault:
        raise OutputError(f"{shown_path(out)} cannot be made ({fault}): name another folder") from None
    try:
        yield folder
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_place(target: Path, source: Path, out: Path) -> None:
    if target == source.resolve() or source.resolve() in target.parents:
        raise OutputError(f"{shown_path(out)} is in the model's own folder, which stays as it is: name another folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{shown_path(out)} is there already: name a folder that does not exist, or is empty")


def _sweep(target: Path) -> None:
    """Remove the unfinished folders of processes that are gone."""
    beginning = f".{target.name}.baking-"
    for left in [entry for entry in target.parent.iterdir() if entry.name.startswith(beginning)]:
        pid = left.name.rpartition("-")[2]
        if not pid.isdecimal() or not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_folder(folder: Path, source: Path, form: Form, metadata: Mapping[str, str]) -> None:
    """Write a model: the tokenizer's and the licence's files of `source`, the form's weights, and at last config.json.

    Raises DiskFull before anything is written where there is too little room.
    """
    _check_room(folder, form.weights)
    for file in sorted(source.iterdir()):
        copied = file.suffix in _COPIED and file.name not in _NOT_COPIED and not file.name.startswith(".")
        if file.is_file() and (copied or _TERMS.match(file.name)):
            shutil.copyfile(file, folder / file.name)
    if form.module is not None:
        (folder / MODULE_FILE).write_text(form.module, encoding="utf-8")
    write_weights(folder, form.weights, metadata)
    write_config(folder, form.config)


def _check_room(folder: Path, weights: Mapping[str, mx.array]) -> None:
    needed, free = sum(value.nbytes for value in weights.values()) + _SPARE, shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder.parent} has room for {decimal(free)}, and the model needs {decimal(needed)}: free some"
        )


def emptied(folder: Path) -> None:
    """Remove everything in a folder that is written again in another form; its configuration first."""
    (folder / "config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.unlink()
