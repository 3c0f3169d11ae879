"""The cache folder: what can be made again, kept for every process of this user on this machine."""

import json
import os
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """`STEERFLOW_CACHE`, or `~/.cache/steerflow` (under `XDG_CACHE_HOME` where that is set)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STEERFLOW_CACHE") or Path(home, "steerflow"))


def keep_json(file: Path, data: Any) -> None:
    """Write `data` to `file` as JSON, whole or not at all; folders on the way are made. Raises OSError."""
    temporary = file.with_suffix(f".{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(data), encoding="utf-8")
    temporary.replace(file)
