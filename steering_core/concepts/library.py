"""Concepts by name or path."""

from pathlib import Path

from steering_core.concepts.concept import Concept
from steering_core.errors import ConceptError
from steering_core.library import data_files, did_you_mean
from steering_core.validation import checked, read_yaml


def available_concepts() -> dict[str, Path]:
    """Every concept file found by name; a nearer folder's wins."""
    return data_files("concepts")


def load_concept(name: str) -> Concept:
    """The concept in the file `name`, or of that name. Raises ConceptError with every fault of the file."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        known = available_concepts()
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConceptError(f"there is no concept {name!r}; {hint} A concept is a name or the path of a YAML file.")
        path = known[name]
    return checked(Concept, read_yaml(path, ConceptError), f"the concept {path}", ConceptError)
