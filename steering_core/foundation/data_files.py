"""Data files by name: the user's own before those that come with steerflow."""

import os
from importlib.resources import files as package_files
from pathlib import Path


def data_files(kind: str) -> dict[str, Path]:
    """Every YAML file of a kind (`concepts`, `capabilities`, `specs`) by name; a nearer folder's wins.

    Looked for in `STEERFLOW_DATA`, in the working directory's `data`, and in what comes with steerflow.
    """
    package = Path(str(package_files("steering_core")))
    roots = [os.environ.get("STEERFLOW_DATA"), "data", package.parent / "data", package / "data"]
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(Path(root, kind).glob("*.yaml")) if root else []:
            found.setdefault(path.stem, path)
    return found
