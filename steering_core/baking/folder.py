"""The folder that is written: beside its place first, under its name when it is whole and proved."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.filesize import decimal

from steering_core.backend.mlx import mx
from steering_core.baking.forms import MODULE_FILE, BakedForm
from steering_core.foundation.errors import DiskFull, OutputError
from steering_core.foundation.output_files import new_folder
from steering_core.foundation.user_files import shown_path
from steering_core.models.mlx_lm import write_config, write_weights

_COPIED = (".json", ".jsonl", ".jinja", ".txt", ".tiktoken", ".model", ".py")
_TERMS = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)", re.IGNORECASE)
_NOT_COPIED = ("config.json", "model.safetensors.index.json", "conversion_report.json", "steerflow-manifest.json")
_SPARE = 64 << 20  # bytes beside the weights: tokenizers


@contextlib.contextmanager
def staged(out: Path, source: Path) -> Iterator[Path]:
    """A folder that becomes `out` at the end of the `with` (`new_folder`). Raises OutputError, in `source` as well."""
    with contextlib.suppress(ValueError):  # no name that a folder can have: new_folder says so
        target, own = Path(os.path.realpath(out)), source.resolve()
        if own in (target, *target.parents):
            raise OutputError(
                f"{shown_path(out)} is in the model's own folder, which stays as it is: name another folder"
            )
    with new_folder(out, OutputError) as folder:
        yield folder


def write_folder(folder: Path, source: Path, form: BakedForm, metadata: Mapping[str, str]) -> None:
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
