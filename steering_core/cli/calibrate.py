"""`steer calibrate SPEC`: the largest alpha within the damage bounds, measured, beside the rules of thumb."""

from functools import partial
from typing import Annotated

import typer

from steering_core.cli.shared.measuring import print_measured, spec_of
from steering_core.cli.shared.options import FormatOption, OneConcept, OneModel, SpecArgument, StoreOption
from steering_core.pipeline.measuring import calibration_rows
from steering_core.reports.printing import Format

app = typer.Typer()


@app.command()
def calibrate(
    spec: SpecArgument = "quickstart",
    concept: OneConcept = None,
    model: OneModel = None,
    texts: Annotated[bool, typer.Option(help="Let sampled texts say which damage each direction may do.")] = True,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Measure the largest alpha of every layer's vector within the damage bounds, beside 300 / norm and 50 / norm."""
    print_measured(spec_of(spec, model, concept), partial(calibration_rows, texts=texts), store, form)
