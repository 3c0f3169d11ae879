"""`steer report`: the evidence as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from steering_core.cli.shared.options import StoreOption
from steering_core.foundation.errors import OutputError
from steering_core.foundation.output_files import write_text
from steering_core.reports.next_steps import STORE_FOLDER
from steering_core.reports.page import report_page
from steering_core.reports.printing import console
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    model: Annotated[str | None, typer.Option(help="Only this model, by its name in the store.")] = None,
    concept: Annotated[str | None, typer.Option(help="Only this concept, by name.")] = None,
    store: StoreOption = None,
) -> None:
    """Write verdicts, pictures, leaderboards and sample texts as one HTML file that needs nothing else."""
    opened = Store.existing(store or default_store())
    page = report_page(opened, model, concept)
    write_text(output, page, OutputError)
    console().print(f"{output.resolve()} ({len(page) / 1024:.0f} KiB)", soft_wrap=True)
    if STORE_FOLDER in page:
        told = f"So that it can be given away, {STORE_FOLDER} stands in its commands for {opened.root}"
        console().print(told, soft_wrap=True)
