"""`steer explain WORD`: what a word of the tables and reports means."""

from typing import Annotated

import typer

from steering_core.cli.options import FormatOption
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
    """Say what words of the tables and reports mean, methods, and columns of the store's views."""
    methods = method_meanings()
    rows = [{"word": word, "meaning": meaning(word, methods)} for word in words or glossary()]
    print_rows(rows, ["word", "meaning"], form)
