"""`steer calibrate SPEC`: the largest alpha within the damage bounds, measured, beside the rules of thumb."""

from typing import Annotated, Any

import typer

from steering_core.cli.evidence import over_concepts
from steering_core.pipeline.layer_sweep import calibrated
from steering_core.reports.printing import Format, print_rows

app = typer.Typer()


@app.command()
def calibrate(
    spec: Annotated[str, typer.Argument(help="The spec: a YAML file, or a name in data/specs.")] = "quickstart",
    concept: Annotated[str | None, typer.Option(help="This concept instead of the spec's.")] = None,
    model: Annotated[str | None, typer.Option(help="This model instead of the spec's.")] = None,
    texts: Annotated[bool, typer.Option(help="Hold sampled texts to the perplexity bound too, not KL alone.")] = True,
    store: Annotated[str | None, typer.Option(help="Folder of the store; STEERFLOW_STORE or data/store.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
) -> None:
    """Measure the largest alpha of every layer's vector within the damage bounds, beside 300 / norm and 50 / norm."""
    rows: list[dict[str, Any]] = []
    for run, opened, one, vectors in over_concepts(spec, model, concept, store):
        rows += calibrated(run, opened, one, vectors, texts)
    print_rows(rows, list(rows[0]), form)
