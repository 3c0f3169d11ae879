"""Paths in a file that somebody wrote: looked for beside the file first, then in the working directory."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steering_core.foundation.user_files import home_expanded, is_file, is_folder
from steering_core.foundation.validation import shown

log = logging.getLogger(__name__)
_CODE = ":"  # FILE.py:FUNCTION
_FILES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".py")


def found_beside(data: Any, places: Sequence[Sequence[str]], source: Path) -> Any:
    """`data` of the file `source`, in which paths to what lies beside that file are paths from the working directory.

    `places` are the keys, from the outermost on, whose texts may be paths. What is a plain name, absolute, or not there
    beside the file stays as it is; of a file that is in neither folder a warning says where it was looked for.
    """
    for keys in places:
        data = _changed(data, keys, source)
    return data


def _changed(data: Any, keys: Sequence[str], source: Path) -> Any:
    if keys:
        if not isinstance(data, dict) or keys[0] not in data:
            return data
        return data | {keys[0]: _changed(data[keys[0]], keys[1:], source)}
    if isinstance(data, list):
        return [_changed(one, (), source) for one in data]
    return _path_from_here(data, source) if isinstance(data, str) else data


def _path_from_here(text: str, source: Path) -> str:
    name, code, function = text.rpartition(_CODE) if ".py:" in text else (text, "", "")
    path = home_expanded(name)
    if path.is_absolute() or name.startswith("hf:") or not (path.suffix or "/" in name):
        return text
    beside = source.parent / path
    apart = beside.absolute() != path.absolute()
    if apart and (is_file(beside) or is_folder(beside)):
        return f"{beside}{code}{function}"
    if apart and path.suffix in _FILES and not is_file(path):
        log.warning(
            "%s names %s, which lies neither beside it, in %s, nor in the working directory, %s",
            source,
            shown(name),
            source.parent.resolve(),
            Path.cwd(),
        )
    return text
