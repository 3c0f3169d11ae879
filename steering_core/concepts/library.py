"""Concepts by name, or from a file of any known form."""

import difflib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from steering_core.concepts.concept import Concept
from steering_core.concepts.formats.columns import notes_of
from steering_core.concepts.formats.hub import HUB
from steering_core.concepts.formats.read import read_concept
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.sequences import repeated
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import is_file, near_file
from steering_core.foundation.validation import shown

log = logging.getLogger(__name__)


def available_concepts() -> dict[str, Path]:
    """Every concept file found by name; a nearer folder's wins."""
    return data_files("concepts")


def load_concepts(names: Iterable[str]) -> list[Concept]:
    """The concepts of those names or files. Raises ConceptError as `load_concept` does, and for two of one name."""
    concepts = [load_concept(name) for name in names]
    refuse_namesakes(concepts)
    return concepts


def refuse_namesakes(concepts: Sequence[Concept]) -> None:
    """Raise ConceptError where two concepts are of one name: nobody could tell their results apart."""
    names = [concept.name for concept in concepts]
    if twice := repeated(names):
        raise ConceptError(f"two concepts are called {twice[0]!r}: leave one out, or give its file another `name`")


def load_concept(name: str) -> Concept:
    """The concept of that name, or in the file `name`, of any form that is read (docs/concepts.md).

    A warning says which columns and rows of a table were left out. Raises ConceptError with every fault of the file.
    """
    known = available_concepts()
    if name in known:
        return read_concept(known[name])
    if name.startswith(HUB) or "/" in name or Path(name).suffix or is_file(name):
        _refuse_misspelt(name, known)
        concept = read_concept(name)
        if notes := notes_of(concept, name):
            log.warning("%s: %s", name, notes)
        return concept
    hint = did_you_mean(name, known)
    raise ConceptError(f"there is no concept {shown(name)}; {hint} A concept is a name, or the path of a file.")


def _refuse_misspelt(path: str, known: Iterable[str]) -> None:
    """Raise ConceptError for `sentimnt.yaml`, which no file is nearly called and a shipped concept is."""
    near = difflib.get_close_matches(Path(path).stem, known, n=1)
    if near and not path.startswith(HUB) and not os.path.lexists(path) and not near_file(Path(path)):
        raise ConceptError(f"there is no file {shown(path)}; did you mean the concept {near[0]!r}?")
