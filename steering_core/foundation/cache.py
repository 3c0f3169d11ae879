"""The cache folder: what can be made again, kept for every process of this user on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`STEERFLOW_CACHE`, or `~/.cache/steerflow` (under `XDG_CACHE_HOME` where that is set)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STEERFLOW_CACHE") or Path(home, "steerflow"))
