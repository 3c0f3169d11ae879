"""Concepts by name or path."""

import difflib
import os
from importlib.resources import files as package_files
from pathlib import Path

from steering_core.concepts.concept import Concept
from steering_core.errors import ConceptError
from steering_core.validation import checked, read_yaml


def concept_folders() -> list[Path]:
    """Where concepts are looked for by name: `STEERFLOW_DATA`, the working directory's `data`, the shipped set."""
    package = Path(str(package_files("steering_core")))
    data = [os.environ.get("STEERFLOW_DATA"), "data", package.parent / "data", package / "data"]
    return [folder for part in data if part and (folder := Path(part, "concepts")).is_dir()]


def available_concepts() -> dict[str, Path]:
    """Every concept file found by name; a nearer folder's wins."""
    found: dict[str, Path] = {}
    for folder in concept_folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load_concept(name: str) -> Concept:
    """The concept in the file `name`, or of that name. Raises ConceptError with every fault of the file."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        known = available_concepts()
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {meant[0]!r}?" if meant else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise ConceptError(f"there is no concept {name!r}; {hint} A concept is a name or the path of a YAML file.")
        path = known[name]
    return checked(Concept, read_yaml(path, ConceptError), f"the concept {path}", ConceptError)
