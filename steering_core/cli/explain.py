"""`steer explain WORD`: what a word of the tables and reports means, or what a verb does."""

from collections.abc import Mapping
from typing import Annotated

import typer

from steering_core.cli.main import VERBS
from steering_core.cli.main import app as app_of_verbs
from steering_core.cli.shared.options import FormatOption
from steering_core.foundation.errors import WordUnknown
from steering_core.foundation.words import glossary, meaning
from steering_core.reports.printing import Format, print_rows
from steering_core.vectors.methods import method_meanings

app = typer.Typer()


@app.command()
def explain(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words or columns, such as dose; all of the glossary.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what words of the tables and reports mean: columns, methods, checks of lint and verbs too."""
    methods = method_meanings()
    rows = [{"word": word, "meaning": _meaning(word, methods)} for word in words or glossary()]
    print_rows(rows, ["word", "meaning"], form)


def _meaning(word: str, methods: Mapping[str, str]) -> str:
    """What a word means, or a verb does. Raises WordUnknown with the nearest of them all."""
    try:
        return meaning(word, methods)
    except WordUnknown:  # only now are all verbs' modules loaded
        return meaning(word, {**_verbs(), **methods})


def _verbs() -> dict[str, str]:
    """Every verb by its name, and every sub-verb by its own and with its verb's before it; what each does."""
    found = {verb: f"`steer {verb}`: {says}" for verb, says in VERBS.items()}
    below: dict[str, list[str]] = {}
    group = typer.main.get_command(app_of_verbs)
    for verb in VERBS:
        command = group.get_command(typer.Context(group), verb)  # type: ignore[attr-defined]
        for name, one in getattr(command, "commands", {}).items():
            said = f"`steer {verb} {name}`: {one.short_help}"
            found[f"{verb} {name}"] = said
            below.setdefault(name, []).append(said)
    return {name: "  ".join(said) for name, said in below.items()} | found
