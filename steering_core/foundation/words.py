"""What words and columns mean: one file that docs, `steer explain` and the explorer read."""

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

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


def printed() -> dict[str, str]:
    """Columns of tables that commands print and no view has, and what each holds."""
    return _read()["printed"]


def lint_checks() -> dict[str, str]:
    """The checks of `steer concepts lint`, and what each finds."""
    return _read()["checks"]


def meaning(word: str, others: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a word or column means, a check of lint or one of `others`, however its parts are joined.

    A check that has the name of another word is told of behind it. Raises WordUnknown with the nearest one.
    """
    known = {_spaced(name): says for name, says in {**others, **printed(), **columns(), **glossary()}.items()}
    for name, finds in lint_checks().items():
        known[name] = "  ".join((*([known[name]] if name in known else ()), f"`steer concepts lint` finds: {finds}"))
    wanted = _spaced(word)
    longer = [name for name in map(_spaced, glossary()) if name.startswith(f"{wanted} ")]  # `p` is said for `p_value`
    for name in (wanted, wanted.removesuffix("s"), *(longer if len(longer) == 1 else ())):
        if says := known.get(name):
            return says
    near = difflib.get_close_matches(wanted, known, n=1)
    raise WordUnknown(f"no word {word!r} is explained; {did_you_mean(wanted, near or glossary())}")


def _spaced(word: str) -> str:
    """The word in small letters, its parts joined by spaces: `p_value`, `p-value` and `P value` are one."""
    return word.strip().lower().replace("_", " ").replace("-", " ")
