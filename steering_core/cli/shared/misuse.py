"""A command that was typed wrongly, in one paragraph: what is wrong with it, what was meant, and where help is.

typer has the classes of these errors in a private module since it took click in: nothing else here names it.
"""

import re
from collections.abc import Sequence
from typing import Any

from typer import Abort
from typer._click.exceptions import (
    BadParameter,
    MissingParameter,
    NoArgsIsHelpError,
    NoSuchOption,
    UsageError,
)

from steering_core.foundation.suggestions import did_you_mean

__all__ = ["Abort", "NoArgsIsHelpError", "UsageError", "checked_value", "misuse", "store_given"]

_NO_COMMAND = re.compile(r"No such command ('.*?')\.")
QUOTES = "'"
OTHER_WORDS = {
    **dict.fromkeys(("--strength", "--coefficient", "--coeff", "--multiplier", "--scale"), ("--dose", "--alpha")),
    "--layer": ("--layers",),
    "--max-new-tokens": ("--max-tokens",),
    "--prompt": ("--prompts",),
}
"""Options by names that other tools have for them, and what they are called here."""


def misuse(error: UsageError) -> str:
    """What is wrong with a command, with a suggestion where a word is close to a known one, and where help is."""
    where = error.ctx.command_path if error.ctx else "steer"
    said = _fault(error).rstrip(".")
    return f"{said}{'' if said.endswith('?') else ';'} `{where} --help` lists what it takes"


def checked_value(param: Any, may_be_empty: bool, ctx: Any, value: Any) -> Any:
    """What click makes of a value as it was typed. Raises BadParameter for an empty one, and for one that is no text.

    Python takes bytes that are no UTF-8 for halves of surrogate pairs, which nothing can print or store.
    """
    for one in value if isinstance(value, list | tuple) else (value,):
        if one == "" and not may_be_empty:
            raise BadParameter("it is empty; give a value, or leave it out", ctx=ctx, param=param)
        if isinstance(one, str) and one != one.encode(errors="replace").decode():
            raise BadParameter(f"{one!r:.100} is no UTF-8; write it as UTF-8", ctx=ctx, param=param)
    return type(param).process_value(param, ctx, value)


def store_given(words: Sequence[str]) -> str | None:
    """The store that a command names; None where it names none."""
    for at, word in enumerate(words):
        if word == "--store" and at + 1 < len(words):
            return words[at + 1]
        if word.startswith("--store="):
            return word.removeprefix("--store=")
    return None


def _fault(error: UsageError) -> str:
    if isinstance(error, NoSuchOption):
        known = [name for one in error.ctx.command.params for name in one.opts if name.startswith("--")]  # type: ignore[union-attr]
        meant = [name for name in OTHER_WORDS.get(error.option_name, ()) if name in known]
        if meant:
            return f"there is no option {error.option_name!r}: did you mean {' or '.join(map(repr, meant))}?"
        return f"there is no option {error.option_name!r}: {did_you_mean(error.option_name, known)}"
    if isinstance(error, MissingParameter):
        named = error.param.name if error.param else error.param_hint
        return f"{str(named).replace('_', ' ')} is missing"
    if isinstance(error, BadParameter):
        return error.format_message().replace("Value error, ", "").replace("Invalid value for ", "a wrong value for ")
    if error.ctx and (found := _NO_COMMAND.match(error.format_message())):
        verbs = getattr(error.ctx.command, "commands", {})
        return f"there is no verb {found[1]}; {did_you_mean(found[1].strip(QUOTES), verbs)}"
    said = error.format_message()
    return f"{said[:1].lower()}{said[1:]}"
