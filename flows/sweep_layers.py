"""`sweep-layers`: which layer steers best where all do the same damage, compared with chance.

prefect deployment run sweep-layers --param spec=quickstart --param damage=0.2
"""

from functools import partial
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.asked import asked_spec, flow_run_name
from flows.measuring import measure_cells
from flows.service.faults import tell_faults_in_one_line
from flows.tasks import ProgressReporter
from steering_core.pipeline.measuring import layer_sweep_rows, over_layers
from steering_core.runs import Run
from steering_core.store import Store, TableRows, default_store


@flow(name="sweep-layers", flow_run_name=flow_run_name, persist_result=False)
def sweep_layers(
    spec: str = "quickstart",
    models: list[str] | None = None,
    concepts: list[str] | None = None,
    damage: Annotated[float, Field(gt=0)] = 0.2,
    store: str | None = None,
) -> TableRows:
    """Measure what every layer's vectors do at the strength where all do the same damage, beside their controls.

    Args:
        spec: A spec: its name in data/specs, or the path of a YAML file.
        models: Models to use instead of the spec's.
        concepts: Concepts to use instead of the spec's.
        damage: The equal damage, in nats per token of neutral answers.
        store: The store; STEERFLOW_STORE or data/store where it is left out.
    """
    tell_faults_in_one_line()
    wanted, opened = asked_spec(spec, models, concepts), Store(store or default_store())
    run = Run(over_layers(wanted, "all"), opened, ProgressReporter(), keeps_outcomes=False)
    return measure_cells(run, "sweep layers", partial(layer_sweep_rows, damage=damage))
