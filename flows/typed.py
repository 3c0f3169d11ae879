"""Parameters of a flow run as they are typed after `prefect deployment run NAME`: read, refused, or put right.

A deployment says the form of each parameter. Prefect refuses what does not fit it with the words "is not valid under
any of the given schemas"; here the message says what to type. A file is typed as it is seen from where one stands, and
the flow run looks from another folder: its path is made absolute.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.absent import KINDS, absent
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import home_expanded
from steering_core.foundation.validation import shown

Form = Mapping[str, Any]
_PYTHON: dict[str, tuple[type, ...]] = {
    **{"array": (list,), "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,)},
    **{"null": (type(None),), "object": (dict,)},
}
_WORDS = {"string": "a text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}


def refuse_other_forms(given: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    """SystemExit, with what to type, for parameters that the deployment has not or of another kind than it takes."""
    faults = [fault for key, value in given.items() if (fault := _fault(key, value, forms))]
    if faults:
        raise SystemExit("\n".join(faults))


def refuse_what_is_not_there(given: Mapping[str, Any]) -> None:
    """SystemExit for specs, concepts and models that this clone has not. A flow run tells what is wrong within them."""
    named = [(kind, name) for key, kind in KINDS.items() for name in _names(given.get(key))]
    if faults := [fault for kind, name in named if (fault := absent(kind, name))]:
        raise SystemExit("\n".join(faults))


def with_whole_paths(words: list[str]) -> list[str]:
    """The same words, the paths of files that are there made absolute."""
    changed = list(words)
    for place in _places(words):
        whole = {key: _whole(value) if key in KINDS else value for key, value in place.given.items()}
        if whole != place.given:
            changed[place.word] = place.before + place.written(whole)
    return changed


def parameters(words: list[str]) -> dict[str, Any]:
    """The parameters on the command line, as `prefect` reads them: JSON, or else text."""
    return {key: value for place in _places(words) for key, value in place.given.items()}


@dataclass(frozen=True)
class _Place:
    """A word of the command line that holds parameters: its number, what is before them, how they are written."""

    word: int
    before: str
    given: dict[str, Any]
    written: Callable[[dict[str, Any]], str]


def _places(words: list[str]) -> Iterator[_Place]:
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        at, before, text = (i, f"{option}=", value) if equals else (i + 1, "", "".join(words[i + 1 : i + 2]))
        if option == "--params":
            given = _read(text)
            yield _Place(at, before, given if isinstance(given, dict) else {}, json.dumps)
        elif option in ("--param", "-p") and text:
            key, _, said = text.partition("=")
            yield _Place(at, before, {key: _read(said)}, _pair)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pair(given: dict[str, Any]) -> str:
    ((key, value),) = given.items()
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _names(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str)]


def _whole(value: Any) -> Any:
    """A name or a list of names, a relative path among them from the root on."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if not isinstance(value, str) or ("/" not in value and not Path(value).suffix):
        return value
    path = home_expanded(value)
    return str(path.absolute()) if path.exists() else value


def _fault(key: str, value: Any, forms: Mapping[str, Form]) -> str | None:
    """What is wrong with a parameter, in a sentence; None where nothing is."""
    if key not in forms:
        return f"There is no parameter {key!r}: {did_you_mean(key, forms)}"
    branches = [forms[key], *forms[key].get("anyOf", [])]
    kinds = [branch["type"] for branch in branches if "type" in branch]
    if not kinds or any(_is(value, kind) for kind in kinds):
        return None
    if "array" in kinds:
        return f"{key} takes a list of texts, not {shown(value)}: type -p '{key}={json.dumps(_listed(value))}'"
    if "string" in kinds:
        return f"{key} takes a text, not {shown(value)}: type -p '{key}={_text(value)}'"
    return f"{key} takes {' or '.join(_WORDS.get(kind, kind) for kind in kinds if kind != 'null')}, not {shown(value)}"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("number", "integer"):
        return False
    fits = isinstance(value, _PYTHON.get(kind, (object,)))
    return fits and (kind != "array" or all(isinstance(one, str) for one in value))


def _text(value: Any) -> str:
    """What to type for the text that somebody meant who typed a number, or a list with one text."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return one if isinstance(one, str) and _read(one) == one else json.dumps(json.dumps(one))


def _listed(value: Any) -> list[str]:
    """The list that somebody meant who typed one name, or several with commas between."""
    values = value if isinstance(value, list) else str(value).strip("[]() ").split(",")
    return [text for one in values if (text := str(one).strip(" \"'"))]
