"""`steer sweep-layers SPEC`: which layer steers best at equal damage, compared with chance."""

from functools import partial
from typing import Annotated

import typer

from steering_core.cli.shared.measuring import print_measured, spec_of
from steering_core.cli.shared.options import FormatOption, OneConcept, OneModel, SpecArgument, StoreOption
from steering_core.foundation.bounds import MAX_KL
from steering_core.pipeline.measuring import layer_sweep_rows
from steering_core.reports.printing import Format

app = typer.Typer()


@app.command()
def sweep_layers(
    spec: SpecArgument = "quickstart",
    concept: OneConcept = None,
    model: OneModel = None,
    damage: Annotated[
        float, typer.Option(min=0.001, max=MAX_KL, help="The equal damage, in nats per token of neutral answers.")
    ] = 0.2,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Effect of every layer's vector at the dose where all do the same damage, minus its best control's."""
    print_measured(spec_of(spec, model, concept, layers="all"), partial(layer_sweep_rows, damage=damage), store, form)
