"""Commands that people read and type: each names the store that it is about, where that is not the default one."""

import re
import shlex
from pathlib import Path

from steering_core.store.opening import DEFAULT_STORE

WITHOUT_STORE = frozenset({"concepts list", "concepts show", "concepts lint", "concepts new", "concepts import"}) | {
    "concepts generate",
    "explain",
}
"""The verbs that take no `--store`; a test holds it against the command line."""
_IN_BACKTICKS = re.compile(r"`(steer [a-z][^`]*)`")


def at_store(command: str, root: object) -> str:
    """`steer VERB …` with the option that names the store at `root`.

    Nothing is added for the default store of this folder, to a verb that takes no store, nor to a command that names
    one. `STEERFLOW_STORE` does not count, as whoever reads a report may have set it otherwise.
    """
    verb, sub = [*command.split()[1:3], "", ""][:2]
    told = "--store" in command or "--help" in command or verb.isupper()
    if told or {verb, f"{verb} {sub}"} & WITHOUT_STORE:
        return command
    return " ".join([command, *map(shlex.quote, store_option(root))])


def store_option(root: object) -> list[str]:
    """The option that names the store at `root`; empty for the default store of this folder."""
    usual = str(root) in (DEFAULT_STORE, str(Path(DEFAULT_STORE).resolve()))
    return [] if usual else ["--store", str(root)]


def commands_at_store(text: str, root: object) -> str:
    """A text with every command in backticks as `at_store` has it."""
    return _IN_BACKTICKS.sub(lambda found: f"`{at_store(found[1], root)}`", text)
