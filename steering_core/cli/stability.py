"""`steer stability SPEC`: whether other seeds, and halves of the pairs, recommend the same."""

from typing import Annotated

import typer

from steering_core.cli.shared.measuring import shown_run, spec_of
from steering_core.cli.shared.options import FormatOption, OneConcept, OneModel, SpecArgument, StoreOption
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stability import stability_of
from steering_core.reports.printing import Format, print_rows
from steering_core.runs import Run
from steering_core.store import Row, Store, default_store

app = typer.Typer()


@app.command()
def stability(
    spec: SpecArgument = "quickstart",
    concept: OneConcept = None,
    model: OneModel = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many seeds of the texts.")] = 5,
    halves: Annotated[bool, typer.Option(help="Also each half of the training pairs alone.")] = True,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Recommend again with other seeds, and from each half of the pairs: layer, dose and verdict of every one.

    All that a seed does not change is reused. The rows stay in the view `stability`.
    """
    rows: list[Row] = []
    wanted = spec_of(spec, model, concept)

    def cell(run: Run, model: Model, concept: Concept) -> None:
        """Gather one cell's rows."""
        rows.extend(stability_of(run, model, concept, seeds, halves))

    with shown_run(wanted, Store(store or default_store())) as run:
        each_cell(run, cell)
    if rows:
        print_rows(rows, list(rows[0]), form)
    run.raise_failures({"measured": rows})
