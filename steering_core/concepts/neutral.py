"""The neutral prompts that damage is measured on."""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from steering_core.concepts.concept import MAX_ROWS, Text
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import Strict, checked, read_yaml


class Neutral(Strict, fault=ConceptError):
    """The file of neutral prompts."""

    name: str
    description: str
    licence: str
    prompts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_ROWS)]


def neutral_prompts() -> tuple[str, ...]:
    """Prompts without any concept in them, for measuring damage; a nearer data folder's `neutral.yaml` wins."""
    path = data_files(".").get("neutral")
    if path is None:
        raise ConceptError("there is no neutral.yaml in any data folder: reinstall steerflow, or set STEERFLOW_DATA")
    return _prompts(path.resolve())


def neutral_prompt_id(prompt: str, chat: bool) -> str:
    """The id of a neutral prompt as it is asked: in a chat, or as raw text."""
    return content_key("neutral", chat, prompt)


@cache
def _prompts(path: Path) -> tuple[str, ...]:
    return checked(Neutral, read_yaml(path, ConceptError), str(path), ConceptError).prompts
