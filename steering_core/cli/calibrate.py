"""`steer calibrate SPEC`: the largest alpha within the damage bounds, measured, beside the rules of thumb."""

from functools import partial
from typing import Annotated

import typer

from steering_core.cli.evidence import print_measured, spec_of
from steering_core.pipeline.measuring import calibrated
from steering_core.reports.printing import Format

app = typer.Typer()


@app.command()
def calibrate(
    spec: Annotated[str, typer.Argument(help="The spec: a YAML file, or a name in data/specs.")] = "quickstart",
    concept: Annotated[str | None, typer.Option(help="This concept instead of the spec's.")] = None,
    model: Annotated[str | None, typer.Option(help="This model instead of the spec's.")] = None,
    texts: Annotated[bool, typer.Option(help="Let sampled texts say which damage each direction may do.")] = True,
    store: Annotated[str | None, typer.Option(help="Folder of the store; STEERFLOW_STORE or data/store.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
) -> None:
    """Measure the largest alpha of every layer's vector within the damage bounds, beside 300 / norm and 50 / norm."""
    print_measured(spec_of(spec, model, concept), partial(calibrated, texts=texts), store, form)
