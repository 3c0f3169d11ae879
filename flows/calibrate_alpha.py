"""`calibrate-alpha`: the largest alpha of every vector within the damage bounds, measured.

prefect deployment run calibrate-alpha --param spec=quickstart
"""

from functools import partial

from prefect import flow

from flows.asked import asked_spec, flow_run_name
from flows.measuring import measure_cells
from flows.service.faults import tell_faults_in_one_line
from flows.tasks import ProgressReporter
from steering_core.pipeline.measuring import calibration_rows
from steering_core.runs import Run
from steering_core.store import Store, TableRows, default_store


@flow(name="calibrate-alpha", flow_run_name=flow_run_name, persist_result=False)
def calibrate_alpha(
    spec: str = "quickstart",
    models: list[str] | None = None,
    concepts: list[str] | None = None,
    texts: bool = True,
    store: str | None = None,
) -> TableRows:
    """Measure the largest alpha of every layer's vector within the spec's damage bounds.

    Args:
        spec: A spec: its name in data/specs, or the path of a YAML file.
        models: Models to use instead of the spec's.
        concepts: Concepts to use instead of the spec's.
        texts: Let sampled texts say which damage each direction may do.
        store: The store; STEERFLOW_STORE or data/store where it is left out.
    """
    tell_faults_in_one_line()
    wanted, opened = asked_spec(spec, models, concepts), Store(store or default_store())
    run = Run(wanted, opened, ProgressReporter(), keeps_outcomes=False)
    return measure_cells(run, "calibrate", partial(calibration_rows, texts=texts))
