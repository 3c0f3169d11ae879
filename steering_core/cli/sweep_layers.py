"""`steer sweep-layers SPEC`: which layer steers best at equal damage, compared with chance."""

from functools import partial
from typing import Annotated

import typer

from steering_core.cli.evidence import print_measured, spec_of
from steering_core.foundation.bounds import MAX_KL
from steering_core.pipeline.measuring import swept
from steering_core.reports.printing import Format

app = typer.Typer()


@app.command()
def sweep_layers(
    spec: Annotated[str, typer.Argument(help="The spec: a YAML file, or a name in data/specs.")] = "quickstart",
    concept: Annotated[str | None, typer.Option(help="This concept instead of the spec's.")] = None,
    model: Annotated[str | None, typer.Option(help="This model instead of the spec's.")] = None,
    damage: Annotated[
        float, typer.Option(min=0.001, max=MAX_KL, help="The equal damage, in nats per token of neutral answers.")
    ] = 0.2,
    store: Annotated[str | None, typer.Option(help="Folder of the store; STEERFLOW_STORE or data/store.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
) -> None:
    """Effect of every layer's vector at the dose where all do the same damage, minus its best control's."""
    print_measured(spec_of(spec, model, concept, layers="all"), partial(swept, damage=damage), store, form)
