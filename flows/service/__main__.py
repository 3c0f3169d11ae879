"""`python -m flows.service up | down | deploy | serve | worker POOL | password`: Prefect for this clone.

`up` starts what does not run yet, `down` stops what does. `serve` and `worker` stay in the foreground, for service
managers. The server binds to the host of PREFECT_API_URL, which is loopback unless told otherwise. Logs and process ids
lie in `.state` (STEERFLOW_STATE). For a machine that should do this at every boot, see docs/orchestration.md.
"""

import argparse
import sys

from flows.service.clone import keep_address, read_address, speaking_to
from flows.service.deployments import deploy
from flows.service.lifecycle import down, up, worker
from flows.service.processes import POOLS, ServiceError
from flows.service.server import await_server, serve


def main(words: list[str]) -> None:
    """Do what the words say. Raises ServiceError."""
    given = _parser().parse_args(words)
    address = read_address()
    if given.word == "up":
        up(address, nightly=given.nightly == "on")
    elif given.word == "down":
        down(address)
    elif given.word == "deploy":
        await_server(address)
        with speaking_to(address):
            deploy(address, nightly=given.nightly == "on")
    elif given.word == "serve":
        serve(address)
    elif given.word == "worker":
        worker(address, given.pool)
    else:
        keep_address(address)
        print(address.auth)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.service", description=(__doc__ or "").splitlines()[0])
    words = parser.add_subparsers(dest="word", required=True)
    for word, what in (("up", "start what does not run"), ("deploy", "have the server hold the deployments")):
        starts = words.add_parser(word, help=what)
        starts.add_argument("--nightly", choices=("on", "off"), default="on", help="whether nightly-sweep is scheduled")
    words.add_parser("down", help="stop what runs")
    words.add_parser("serve", help="become the server")
    words.add_parser("worker", help="become a worker").add_argument("pool", choices=POOLS)
    words.add_parser("password", help="print what Prefect's page asks for")
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ServiceError as error:
        sys.exit(str(error))
