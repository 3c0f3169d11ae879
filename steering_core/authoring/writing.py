"""A concept as a YAML file that people read and edit."""

import json
from pathlib import Path
from typing import Any

import yaml

from steering_core.concepts.concept import Concept
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.output_files import writable_path, write_text

FIRST = ("name", "description", "chat", "card", "instructions", "words")
_BREAKS = "\x85\u2028\u2029\r"
MAX_YAML_ROWS = 5_000  # more are no longer read by people, and YAML takes minutes
ROW = ("prompt", "positive", "negative", "matching", "not_matching")


class _Dumper(yaml.SafeDumper):
    """Writes texts that hold an unusual line break in double quotes: PyYAML's other styles would lose it."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(mark in text for mark in _BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def concept_yaml(concept: Concept) -> str:
    """The concept as YAML: what is empty is left out, the rows come last, long lines are folded.

    With thousands of rows it is written as JSON, which is YAML as well and is read a hundred times faster.
    """
    data = _without_empty(concept.model_dump(mode="json", exclude_none=True))
    ordered = {key: data[key] for key in (*FIRST, *data) if key in data}
    rows = concept.pairs or concept.texts
    if len(rows) + len(concept.items) + len(concept.prompts) > MAX_YAML_ROWS:
        return json.dumps(ordered, indent=1, ensure_ascii=False)
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)


def write_concept(concept: Concept, path: Path, replace: bool = False) -> None:
    """Write `concept` to a YAML file, whole or not at all. Raises ConceptError where the file is there already."""
    write_new(concept_yaml(concept), path, replace)


def write_new(text: str, path: Path, replace: bool = False) -> None:
    """Write a text to a file, whole or not at all. Raises ConceptError where the file is there, or cannot be."""
    refuse_replacing(path, replace)
    write_text(path, text, ConceptError)


def refuse_replacing(path: Path, replace: bool) -> None:
    """Raises ConceptError where the file is there already, unless it may be replaced, and where no file can be."""
    if writable_path(path, ConceptError).exists() and not replace:
        raise ConceptError(f"{path} is there already: name another file with --out, or add --force")


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(value[key]) for key in (*[k for k in ROW if k in value], *value)}
        kept = {key: inner for key, inner in kept.items() if inner not in ("", [], {}, None)}
        return kept["text"] if kept.keys() == {"text"} else kept  # an unpaired text without a prompt
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
