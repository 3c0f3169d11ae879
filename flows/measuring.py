"""What the flows that measure the vectors of every (model, concept) cell have in common."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.service.machine import accelerator, in_hand
from flows.service.patience import patiently, publish
from flows.service.threads import end_threads_at_exit
from flows.tasks import STAGE_SECONDS, TASKS
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.measuring import Measure, measured_rows
from steering_core.reports.markdown import markdown_table, markdown_text
from steering_core.runs import Run
from steering_core.store import Row, TableRows
from steering_core.vectors.vector import Vector


@task(
    task_run_name="{what} {concept.name} on {model.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=STAGE_SECONDS,
)
def measure_cell(
    what: str, measure: Measure, run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]
) -> TableRows:
    """Rows of one cell, from the vectors of its grid."""
    return measure(run, model, concept, vectors)


def measured_tables(rows: TableRows) -> str:
    """Rows as a table for each cell, whose names stand above it: the page cuts off what a wide table has at its end."""
    cells: dict[str, list[Row]] = {}
    for row in rows:
        heading = f"## {markdown_text(row['concept'])} on {markdown_text(row['model'])}"
        cells.setdefault(heading, []).append({k: v for k, v in row.items() if k not in ("concept", "model")})
    return "\n\n".join(part for heading, own in cells.items() for part in (heading, markdown_table(own)))


def measure_cells(run: Run, what: str, measure: Measure) -> TableRows:
    """Rows of every cell of a run, one model at a time, published as an artifact. Raises what went wrong at the end."""
    end_threads_at_exit()

    def measure_one(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]) -> TableRows:
        """One cell's rows, as a task, tried again while the server is away."""
        return patiently(lambda: measure_cell(what, measure, run, model, concept, vectors))

    with run, in_hand(flow_run.id), accelerator():
        rows = measured_rows(run, measure_one, TASKS)
    publish(measured_tables(rows), what.replace(" ", "-"), f"{run.spec.name}: {what}")
    run.raise_failures({"measured": rows})
    return rows
