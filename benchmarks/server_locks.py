"""How often SQLite is locked under Prefect's server: flow runs that several clients at once begin and end.

python -m benchmarks.server_locks [--clients 4] [--runs 10]

Needs a running server (`make up`), whose automations hear of every state. Prints how often its log says "database is
locked", how many requests failed, and the seconds.
"""

import datetime
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
from prefect.settings import PREFECT_API_URL

from benchmarks.orchestration import answers
from benchmarks.telling import left_out, options, say
from flows.service.clone import Address, read_address
from flows.service.deployments import client_of
from flows.service.processes import background

STATES = ("PENDING", "RUNNING", "COMPLETED")
LOCKED = "OperationalError) database is locked"
SECONDS_TO_SETTLE = 10.0  # events are handled after the requests that caused them were answered


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the server, and print what its log says meanwhile."""
    parser = options(__doc__)
    parser.add_argument("--clients", type=int, default=4, help="clients at once")
    parser.add_argument("--runs", type=int, default=10, help="flow runs of each client")
    asked = parser.parse_args(arguments)
    if not answers(PREFECT_API_URL.value()):
        left_out("the load", "no Prefect server: `make up` starts one")
        return
    address, runs = read_address(), 3 if asked.tiny else asked.runs
    before, began = times_locked(), time.perf_counter()
    failed = load(address, asked.clients, runs)
    seconds = time.perf_counter() - began
    time.sleep(SECONDS_TO_SETTLE)
    locked = times_locked() - before
    say(
        f"{asked.clients} clients, {runs} flow runs each: {locked} times locked, {failed} requests failed, "
        f"{seconds:.1f} s"
    )


def times_locked() -> int:
    """How often the log of this clone's server says so."""
    log = background("server").log
    return log.read_text(errors="replace").count(LOCKED) if log.exists() else 0


def load(address: Address, clients: int, runs: int) -> int:
    """Have so many clients at once take flow runs through their states; how many requests failed."""
    failed: list[int] = []

    def client() -> None:
        """One client's flow runs, one after another."""
        with client_of(address) as asked:
            flow = asked.post("/flows/", json={"name": "locks"}).json()["id"]
            failed.extend(_failures(asked, flow) for _ in range(runs))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(failed)


def _failures(asked: httpx.Client, flow: str) -> int:
    """How many requests of a flow run's life failed: its creation, its states, a log line of each."""
    made = _answer(asked, "/flow_runs/", {"flow_id": flow, "state": {"type": "SCHEDULED"}})
    if made is None:
        return 1
    run, now = made["id"], datetime.datetime.now(datetime.UTC).isoformat()
    line = {"name": "locks", "level": 20, "message": "x", "timestamp": now, "flow_run_id": run}
    told = [_answer(asked, f"/flow_runs/{run}/set_state", {"state": {"type": state}}) for state in STATES]
    told += [_answer(asked, "/logs/", [line]) for _ in STATES]
    return told.count(None)


def _answer(asked: httpx.Client, path: str, body: object) -> Any:
    """What the server answers; None where the request failed."""
    try:
        answer = asked.post(path, json=body)
    except httpx.HTTPError:
        return None
    return (answer.json() or {}) if answer.is_success else None


if __name__ == "__main__":
    main()
