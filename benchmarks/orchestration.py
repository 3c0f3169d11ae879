"""What Prefect costs: the flow beside `steering_core.pipeline.run` on the same fully cached spec, in interleaved pairs.

python benchmarks/orchestration.py SPEC.yaml [--store DIR] [--pairs 5]

Needs a running server (`make up`). Both run in this process, so the model's and Python's imports count for neither; the
time is from the call to its result. Also counts the flow's task runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.discover_vectors import discover_vectors
from steering_core.pipeline import run
from steering_core.spec import load_spec
from steering_core.store import Store, default_store


def main() -> None:
    """Print the seconds of every pair, the medians, their difference and the number of task runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--store", default=default_store())
    parser.add_argument("--pairs", type=int, default=5)
    wanted = parser.parse_args()
    spec = load_spec(wanted.spec)
    run(spec, Store(wanted.store))  # everything is cached from here on
    flow_run_ids: list[UUID] = []

    def through_prefect() -> None:
        state = discover_vectors(spec=str(wanted.spec), store=wanted.store, return_state=True)
        assert state.is_completed(), state.message
        flow_run_ids.append(state.state_details.flow_run_id)

    through_prefect()  # the first flow run opens connections
    plain, flow = [], []
    for _ in range(wanted.pairs):
        plain.append(seconds(lambda: run(spec, Store(wanted.store))))
        flow.append(seconds(through_prefect))
        print(f"plain {plain[-1]:.2f} s, flow {flow[-1]:.2f} s")
    with get_client(sync_client=True) as client:
        last = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_ids[-1]]))
        tasks = len(client.read_task_runs(flow_run_filter=last))
    a, b = statistics.median(plain), statistics.median(flow)
    cells = len(spec.models) * len(spec.concepts)
    print(f"median plain {a:.2f} s, flow {b:.2f} s, overhead {b - a:.2f} s; {tasks} task runs for {cells} cells")


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
