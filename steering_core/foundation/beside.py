"""Paths in a file that somebody wrote: looked for beside the file first, then in the working directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steering_core.foundation.user_files import home_expanded, is_file, is_folder

_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".py")


def found_beside(data: Any, places: Sequence[Sequence[str]], source: Path) -> Any:
    """The `data` of the file `source`, with paths relative to that file turned into paths from the working directory.

    Each of `places` is a list of keys, the outermost first, under which texts may be paths. A text stays as it is where
    it is a plain name, an absolute path, or a path that exists in the working directory alone.
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
    name, colon, function = text.rpartition(":") if ".py:" in text else (text, "", "")  # FILE.py:FUNCTION
    path = home_expanded(name)
    if path.is_absolute() or name.startswith("hf:") or not (path.suffix or "/" in name):
        return text
    beside = source.parent / path
    elsewhere = beside.absolute() != path.absolute()
    if elsewhere and (is_file(beside) or is_folder(beside)):
        return f"{beside}{colon}{function}"
    if elsewhere and path.suffix in _SUFFIXES and not is_file(path):
        return f"{beside}{colon}{function}"  # in neither folder: the error tells of the one beside
    return text
