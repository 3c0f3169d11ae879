"""Concepts by name, or from a file of any known form."""

import os
from pathlib import Path

from steering_core.concepts.concept import Concept
from steering_core.concepts.formats.hub import HUB
from steering_core.concepts.formats.read import read_concept
from steering_core.errors import ConceptError
from steering_core.library import data_files, did_you_mean


def available_concepts() -> dict[str, Path]:
    """Every concept file found by name; a nearer folder's wins."""
    return data_files("concepts")


def load_concept(name: str) -> Concept:
    """The concept of that name, or in the file `name`, of any form that is read (docs/concepts.md).

    Raises ConceptError with every fault of the file.
    """
    known = available_concepts()
    if name in known:
        return read_concept(known[name])
    # Path.is_file raises OSError for a name of 300 letters
    if name.startswith(HUB) or "/" in name or Path(name).suffix or os.path.isfile(name):  # noqa: PTH113
        return read_concept(name)
    hint = did_you_mean(name, known)
    raise ConceptError(f"there is no concept {name!r}; {hint} A concept is a name, or the path of a file.")
