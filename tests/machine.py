"""A machine of its own for the tests that need a Prefect server: `make up` and `make down` on a free port."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def service(word: str, environment: Mapping[str, str]) -> str:
    """What `make up` or `make down` prints; it must succeed."""
    command = [sys.executable, "-m", "flows.service", word]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def new_machine(folder: Path, **changed: str) -> Iterator[dict[str, str]]:
    """The environment of a machine on which `make up` has run, with these variables changed; `make down` ends it."""
    (folder / "prefect").mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "STEERFLOW_"))} | {
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "STEERFLOW_STATE": str(folder / "state"),
        "STEERFLOW_STORE": str(folder / "store"),
        "STEERFLOW_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
        **changed,
    }
    try:
        service("up", environment)
        yield environment
    finally:
        stopped = service("down", environment)
    assert "worker" in stopped
    assert "server" in stopped
    assert "nothing" in service("down", environment)
