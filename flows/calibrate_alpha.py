"""`calibrate-alpha`: the largest alpha of every vector within the damage bounds, measured.

prefect deployment run calibrate-alpha --param spec=quickstart
"""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import tasks
from flows.discover_vectors import chosen_spec
from flows.machine import accelerator, in_hand
from flows.threads import end_threads_at_exit
from steering_core import pipeline
from steering_core.concepts import Concept
from steering_core.evaluation.layer_sweep import calibrated
from steering_core.models import Model
from steering_core.reports import markdown_table
from steering_core.runs import Run
from steering_core.store import Store, default_store


@task(
    task_run_name="calibrate {concept.name} on {model.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    timeout_seconds=tasks.STAGE_SECONDS,
)
def calibrate(run: Run, model: Model, concept: Concept, texts: bool) -> list[dict[str, Any]]:
    """The largest alpha of each of a concept's vectors."""
    vectors, _ = pipeline.derive_vectors(run, model, concept)
    return calibrated(run, model, concept, vectors, texts)


@flow(name="calibrate-alpha", flow_run_name="calibrate {spec}", persist_result=False)
def calibrate_alpha(
    spec: str = "quickstart",
    models: list[str] | None = None,
    concepts: list[str] | None = None,
    texts: bool = True,
    store: str | None = None,
) -> list[dict[str, Any]]:
    """Measure the largest alpha of every layer's vector within the spec's damage bounds.

    Args:
        spec: A spec: its name in data/specs, or the path of a YAML file.
        models: Models to use instead of the spec's.
        concepts: Concepts to use instead of the spec's.
        texts: Hold sampled texts to the perplexity bound too, not KL alone.
        store: The store; STEERFLOW_STORE or data/store where it is left out.
    """
    end_threads_at_exit()
    wanted, opened = chosen_spec(spec, models, concepts), Store(store or default_store())
    run = Run(wanted, opened, tasks.ProgressReporter(), keeps_outcomes=False)
    found: list[dict[str, Any]] = []

    def calibrate_cell(run: Run, model: Model, concept: Concept) -> None:
        found.extend(calibrate(run, model, concept, texts))

    with in_hand(flow_run.id), accelerator():
        pipeline.each_cell(run, tasks.load_model, tasks.extract_activations, calibrate_cell)
    create_markdown_artifact(markdown_table(found), key="calibration", description=f"Calibration for {spec}")
    run.raise_failures({"calibrated": found})
    return found
