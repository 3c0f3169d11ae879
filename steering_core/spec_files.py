"""Specs in files: by name or path, with what somebody may have meant where there is none."""

import os
from collections.abc import Mapping
from pathlib import Path

from steering_core.foundation.beside import found_beside
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import SpecError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import is_file, is_folder
from steering_core.foundation.validation import checked, read_yaml, shown
from steering_core.spec import Spec

SUFFIXES = (".yaml", ".yml")
PATHS = (
    *(("models",), ("concepts",), ("allow_code",), ("vectors", "methods")),
    *(("scores", "capabilities"), ("scores", "side_effects")),
)
"""Keys under which a spec's texts may be paths."""
OF_CONCEPTS = ("pairs", "items", "positive", "negative", "scenarios")
"""Keys that concepts have and specs do not."""


def load_spec(name: str | Path) -> Spec:
    """The spec in the YAML file `name`, or of that name. Raises SpecError with every fault at once.

    Paths in it are looked for beside the file, then in the working directory.
    """
    path = _file_of(name)
    data = read_yaml(path, SpecError)
    if isinstance(data, Mapping) and "models" not in data and any(key in data for key in OF_CONCEPTS):
        raise SpecError(
            f"{path} is a concept, not a spec: name it under `concepts:` in a spec (`models: [MODEL]`, "
            f"`concepts: [{path}]` are all that one needs), and run that"
        )
    return checked(Spec, found_beside(data, PATHS, path), f"the spec {path}", SpecError)


def _file_of(name: str | Path) -> Path:
    """The file that a spec's name or path means. Raises SpecError with what is near where there is none."""
    path, known = Path(name), data_files("specs")
    if path.suffix in SUFFIXES:
        if not os.path.lexists(path) and (beside := _specs_in(path.parent)):
            raise SpecError(
                f"{shown(str(name))} cannot be read: there is no such file; {did_you_mean(str(name), beside)}"
            )
        return path
    if str(name) in known:
        return known[str(name)]
    if is_file(path):
        raise SpecError(
            f"{shown(str(name))} is no spec: a spec is a file that ends in .yaml, or one of {', '.join(sorted(known))}"
        )
    raise SpecError(f"there is no spec {shown(str(name))}; {did_you_mean(str(name), known)}")


def _specs_in(folder: Path) -> list[str]:
    """YAML files of a folder, as somebody would type them."""
    found = folder.glob("*") if is_folder(folder) else ()
    return [str(path) for path in found if path.suffix in SUFFIXES]
