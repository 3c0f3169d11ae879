"""`nightly-sweep`: every model of a spec in a flow run of its own, wherever a worker is free, and a summary by morning.

prefect deployment run nightly-sweep --param spec=nightly
"""

import datetime
import time
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from flows.asked import asked_spec, flow_run_name
from flows.service.faults import tell_faults_in_one_line
from flows.service.machine import in_hand
from flows.service.patience import patiently, publish
from flows.service.threads import end_threads_at_exit
from flows.sweep_text import Ended, message, sweep_text
from steering_core.foundation.errors import RunIncomplete
from steering_core.spec import Spec
from steering_core.store import Store, default_store
from steering_core.store.queries import named_query

DISCOVER = "discover-vectors/discover-vectors"
ATTEMPTS = 3  # flow runs of a model: one that crashed lost its process, worker or machine, and is begun again
POLL_SECONDS = 5.0


@flow(name="nightly-sweep", flow_run_name=flow_run_name, persist_result=False)
def nightly_sweep(
    spec: str = "nightly",
    models: list[str] | None = None,
    concepts: list[str] | None = None,
    store: str | None = None,
) -> dict[str, Any]:
    """Discover vectors for every model of a spec, each in a flow run of its own, then say what changed.

    Args:
        spec: A spec: its name in data/specs, or the path of a YAML file that every worker can read.
        models: Models to use instead of the spec's.
        concepts: Concepts to use instead of the spec's.
        store: The store; STEERFLOW_STORE or data/store of each worker where it is left out.
    """
    tell_faults_in_one_line()
    end_threads_at_exit()
    wanted = asked_spec(spec, models, concepts, paths=False)
    sweep = f"{wanted.name}-{str(flow_run.id)[:8]}"  # the same when this flow run is resumed
    parameters = {"spec": spec, "concepts": concepts, "store": store, "sweep": sweep}
    with in_hand(flow_run.id):
        ended = end_of_all({model: begin(model, 0, parameters) for model in wanted.models}, parameters)
    return summary(wanted, Store(store or default_store()), sweep, what_ended(ended))


def begin(model: str, attempt: int, parameters: dict[str, Any]) -> FlowRun:
    """Have a worker discover one model's vectors.

    The idempotency key lets a resumed sweep find the flow run that it had begun.
    """

    def begun() -> FlowRun:
        """Ask the server for the flow run; the key makes a second request give the first one."""
        return run_deployment(  # type: ignore[return-value]
            DISCOVER,
            parameters=parameters | {"models": [model]},
            tags=[f"model:{model}", f"sweep:{parameters['sweep']}"],
            idempotency_key=f"{parameters['sweep']}-{model}-{attempt}",
            timeout=0,
        )

    return patiently(begun)


def end_of_all(begun: dict[str, FlowRun], parameters: dict[str, Any]) -> list[FlowRun]:
    """The flow run of every model, once all have ended; a crashed one is begun again, `ATTEMPTS` times at most."""
    ended: dict[str, FlowRun] = {}
    attempts = dict.fromkeys(begun, 1)
    with get_client(sync_client=True) as client:
        while begun:
            for model, run in list(begun.items()):
                found = read(client, run)
                if found is None or found.state is None or not found.state.is_final():
                    continue
                if found.state.is_crashed() and attempts[model] < ATTEMPTS:
                    get_run_logger().warning("%s crashed: %s; trying again", found.name, found.state.message)
                    begun[model] = begin(model, attempts[model], parameters)
                    attempts[model] += 1
                else:
                    ended[model] = found
                    del begun[model]
            time.sleep(POLL_SECONDS if begun else 0)
    return [ended[model] for model in attempts]


def read(client: SyncPrefectClient, run: FlowRun) -> FlowRun | None:
    """The flow run as it is now; None where the server is away, which is waited for."""
    try:
        return client.read_flow_run(run.id)
    except httpx.HTTPError as error:
        if isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error:
            raise
        get_run_logger().warning("the server does not answer (%s): asking again", type(error).__name__)
        return None


def what_ended(runs: list[FlowRun]) -> Ended:
    """What the server says of a sweep that is over: when this flow run began, and where its runs' reports are."""

    def asked() -> Ended:
        """Ask the server, which may have to be asked again."""
        ids = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["report"]))
        with get_client(sync_client=True) as client:
            own = client.read_flow_run(UUID(str(flow_run.id)))
            reports = client.read_artifacts(artifact_filter=key, flow_run_filter=ids)
        found = {report.flow_run_id: report.id for report in reports if report.flow_run_id}
        return Ended(own.start_time or datetime.datetime.now(datetime.UTC), runs, found)

    return patiently(asked)


def summary(spec: Spec, store: Store, sweep: str, ended: Ended) -> dict[str, Any]:
    """Publish what became of every cell; the same as a dict. Raises RunIncomplete where something failed."""
    cells = store.rows(named_query("cells_of_sweep"), [sweep])
    publish(sweep_text(sweep, len(spec.models) * len(spec.concepts), cells, ended), "sweep", f"Sweep {sweep}")
    report = {"sweep": sweep, "cells": cells}
    if ended.lost:
        lines = "\n".join(f"  {run.name}: {run.state_name}: {message(run)}" for run in ended.lost)
        raise RunIncomplete(
            f"sweep {sweep} is incomplete; running it again does only what is missing:\n{lines}", report
        )
    return report
