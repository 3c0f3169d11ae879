"""A concept as a YAML file that people read and edit."""

import os
from pathlib import Path
from typing import Any

import yaml

from steering_core.concepts.concept import Concept
from steering_core.errors import ConceptError

FIRST = ("name", "description", "chat", "card", "instructions", "words")
_BREAKS = "\x85\u2028\u2029\r"
ROW = ("prompt", "positive", "negative", "matching", "not_matching")


class _Dumper(yaml.SafeDumper):
    """Writes texts that hold an unusual line break in double quotes: PyYAML's other styles would lose it."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(mark in text for mark in _BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def concept_yaml(concept: Concept) -> str:
    """The concept as YAML: what is empty is left out, the rows come last, long lines are folded."""
    data = _without_empty(concept.model_dump(mode="json", exclude_none=True))
    ordered = {key: data[key] for key in (*FIRST, *data) if key in data}
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)


def write_concept(concept: Concept, path: Path, replace: bool = False) -> None:
    """Write `concept` to a YAML file, whole or not at all. Raises ConceptError where the file is there already."""
    if path.exists() and not replace:
        raise ConceptError(f"{path} is there already: name another file with --out, or add --force")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(concept_yaml(concept), encoding="utf-8")
        temporary.replace(path)
    except OSError as fault:
        raise ConceptError(f"{path} cannot be written: {fault.strerror}") from fault


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(value[key]) for key in (*[k for k in ROW if k in value], *value)}
        return {key: inner for key, inner in kept.items() if inner not in ("", [], {}, None)}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
