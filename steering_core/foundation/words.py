"""What words and columns mean: one file that docs, `steer explain` and the explorer read."""

from functools import cache
from importlib.resources import files

import yaml

from steering_core.foundation.errors import WordUnknown
from steering_core.foundation.suggestions import did_you_mean


@cache
def _read() -> dict[str, dict[str, str]]:
    text = (files("steering_core.foundation") / "words.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.safe_load(text)
    return found


def glossary() -> dict[str, str]:
    """The words of steering and what each means, in a sentence or two."""
    return _read()["words"]


def columns() -> dict[str, str]:
    """The columns of the store's views, and what each holds, in a phrase with its unit."""
    return _read()["columns"]


def meaning(word: str) -> str:
    """What a word or column means. Raises WordUnknown with the nearest one."""
    wanted = word.strip().lower()
    for name in (wanted, wanted.replace("-", " "), wanted.replace(" ", "_"), wanted.removesuffix("s")):
        if says := glossary().get(name) or columns().get(name):
            return says
    raise WordUnknown(f"no word {word!r} is explained; {did_you_mean(wanted, sorted({*glossary(), *columns()}))}")
