"""`discover-vectors`: from a spec to recommendations, stage by stage.

python -m flows [SPEC]                          # here and now, on a server of its own
prefect deployment run discover-vectors         # on the server and worker of `make up`
"""

from typing import Any

from prefect import flow, tags
from prefect.runtime import flow_run

from flows.asked import asked_spec, chosen_spec, flow_run_name
from flows.service.faults import tell_faults_in_one_line
from flows.service.machine import accelerator, in_hand
from flows.service.patience import publish
from flows.service.threads import end_threads_at_exit
from flows.tasks import TASKS, ProgressReporter
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.discover import discover_cell
from steering_core.reports.artifact import markdown_report
from steering_core.runs import Run
from steering_core.store import Store, default_store


@flow(name="discover-vectors", flow_run_name=flow_run_name, persist_result=False)
def discover_vectors(
    spec: str = "quickstart",
    models: list[str] | None = None,
    concepts: list[str] | None = None,
    store: str | None = None,
    sweep: str | None = None,
) -> dict[str, Any]:
    """Find, prove and recommend a steering vector for every model and concept of a spec.

    Args:
        spec: A spec: its name in data/specs, or the path of a YAML file.
        models: Models to use instead of the spec's: embedded models, mlx-lm folders, Hugging Face ids.
        concepts: Concepts to use instead of the spec's: names in data/concepts, or paths of YAML files.
        store: The store; STEERFLOW_STORE or data/store where it is left out.
        sweep: The sweep that this run is part of, where it is part of one.
    """
    tell_faults_in_one_line()
    end_threads_at_exit()
    wanted = (chosen_spec if sweep else asked_spec)(spec, models, concepts)  # a sweep keeps what became of each cell
    run = Run(wanted, Store(store or default_store()), ProgressReporter(), sweep)
    with run, in_hand(flow_run.id), accelerator():
        each_cell(run, tagged, TASKS)
        report = run.finish()
    publish(markdown_report(run.store, report), "report", f"Run {report['run']}")
    run.raise_failures(report)
    return report


def tagged(run: Run, model: Model, concept: Concept) -> None:
    """Discovery of one cell, its stages as tasks that are tagged by model and concept."""
    with tags(f"model:{model.name}", f"concept:{concept.name}"):
        discover_cell(run, model, concept, TASKS)
