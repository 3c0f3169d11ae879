"""`steer run SPEC.yaml`: the whole pipeline in this process, without Prefect."""

from typing import Annotated

import typer

from steering_core.cli.shared.options import JsonOption, StoreOption
from steering_core.cli.shared.specs_in import allowed_spec
from steering_core.foundation.errors import RunIncomplete, SpecError
from steering_core.pipeline.discover import run
from steering_core.pipeline.steps import numbered, steps
from steering_core.reports.printing import print_json, progress_bars
from steering_core.reports.terminal import print_report
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def run_spec(
    spec: Annotated[str | None, typer.Argument(help="The spec: a YAML file, or a name in data/specs.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec: extract, derive, generate, score, recommend. What the store already holds is not computed again."""
    if spec is None:
        raise SpecError(
            "name a spec: `steer run quickstart` runs the one of the quickstart, data/specs/quickstart.yaml"
        )
    wanted, opened = allowed_spec(spec), Store(store or default_store())
    failed: RunIncomplete | None = None
    try:
        with progress_bars() as notify:
            report = run(wanted, opened, numbered(notify, steps(wanted)))
    except RunIncomplete as error:
        report, failed = error.report, error
    if as_json:
        print_json(report)
    elif report["recommendations"]:
        print_report(opened, report)
    if failed:
        raise failed
