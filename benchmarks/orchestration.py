"""What Prefect costs: the flow beside the plain pipeline on the same fully cached spec, in interleaved pairs.

python -m benchmarks.orchestration SPEC.yaml [--store DIR] [--pairs 5]

Needs a running server (`make up`). Both run in this process, so the model's and Python's imports count for neither; the
time is from the call to its result. Also counts the flow's task runs.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL

from benchmarks.telling import left_out, options
from flows.discover_vectors import discover_vectors
from steering_core.pipeline.discover import run
from steering_core.spec_files import load_spec
from steering_core.store import Store, default_store
from tests.explorer import AGREE
from tests.tiny import save_tiny_model


def tiny_spec(folder: Path) -> Path:
    """A spec of one tiny model and one small concept."""
    concept, spec = folder / "agree.yaml", folder / "spec.yaml"
    concept.write_text(AGREE.model_dump_json(exclude_none=True))
    asked = {
        "models": [str(save_tiny_model(folder / "tiny"))],
        "concepts": [str(concept)],
        "generations": {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3},
        "scores": {"bootstrap": 100},
    }
    spec.write_text(json.dumps(asked))  # which is YAML as well
    return spec


def answers(address: str | None) -> bool:
    """Whether a Prefect server answers at `address`."""
    try:
        return bool(address) and httpx.get(f"{address}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def compare(path: Path, where: str, pairs: int) -> None:
    """Print the seconds of every pair, the medians, their difference and the number of task runs."""
    spec = load_spec(path)
    run(spec, Store(where))  # everything is cached from here on
    if not answers(PREFECT_API_URL.value()):
        left_out("the flow", "no Prefect server: `make up` starts one, PREFECT_API_URL names it")
        print(f"plain {seconds(lambda: run(spec, Store(where))):.2f} s")
        return
    flow_run_ids: list[UUID] = []

    def through_prefect() -> None:
        state = discover_vectors(spec=str(path), store=where, return_state=True)
        assert state.is_completed(), state.message
        flow_run_ids.append(state.state_details.flow_run_id)

    through_prefect()  # the first flow run opens connections
    plain, flow = [], []
    for _ in range(pairs):
        plain.append(seconds(lambda: run(spec, Store(where))))
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare on the spec that is named; with `--tiny` on one of a tiny model."""
    parser = options(__doc__)
    parser.add_argument("spec", nargs="?", type=Path)
    parser.add_argument("--store", default=default_store())
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        if given.tiny:
            given.spec, given.store, given.pairs = tiny_spec(Path(work)), str(Path(work) / "store"), 1
        elif not given.spec:
            parser.error("name a spec")
        compare(given.spec, given.store, given.pairs)


if __name__ == "__main__":
    main()
