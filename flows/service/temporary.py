"""A Prefect server for as long as one process runs flows: guarded, with a password that is drawn for it.

Prefect starts such a server by itself where it knows of none, but only at the first flow run, and after the flow's
process has imported all that a server consists of. This one starts while the flow's process imports what flows need. So
this module imports nothing of Prefect's: Prefect reads the server's address when it is imported.
"""

import atexit
import contextlib
import http.client
import importlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping

from flows.service.loopback import LOOPBACK

SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 5.0
_POLL_SECONDS = 0.05


class TemporaryServer:
    """A server that is started on a port of loopback in the given environment; `wait` returns once it answers.

    It reads a pipe that this process holds, and ends once nobody holds it any more, so it outlives no kill -9. Ctrl-C
    is not meant for it: it must hear from the flow run that it was stopped.
    """

    def __init__(self, port: int, environment: Mapping[str, str]) -> None:
        self._port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 open for as long as the server writes
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.service.temporary", str(port)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            process_group=0,
        )

    def wait(self, seconds: float = SECONDS_TO_START) -> None:
        """Return once the server answers.

        Raises RuntimeError, with what it printed, where it ends or takes more than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self._answers():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"took more than {seconds:g} s to start" if ended is None else f"ended with code {ended}"
                self._log.seek(0)
                raise RuntimeError(f"Prefect's temporary server {why}:\n{self._log.read().decode(errors='replace')}")
            time.sleep(_POLL_SECONDS)

    def _answers(self) -> bool:
        with contextlib.closing(http.client.HTTPConnection(LOOPBACK[0], self._port, timeout=5)) as asked:
            try:
                asked.request("GET", "/api/health")
                return asked.getresponse().status == http.HTTPStatus.OK
            except OSError:  # refused, or too slow
                return False

    def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL after a while."""
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def start_temporary_server() -> TemporaryServer:
    """Start a server on a free port of loopback; Prefect, imported afterwards, speaks to it.

    It ends when this process does, after Prefect has sent its last log lines there.
    """
    port, password = _free_port(), f"steerflow:{secrets.token_urlsafe(24)}"
    os.environ |= {
        "PREFECT_API_URL": f"http://{LOOPBACK[0]}:{port}/api",
        "PREFECT_API_AUTH_STRING": password,
        "PREFECT_UI_URL": "",  # it has no page, so no line of the log tells to look there
    }
    environment = os.environ | {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{LOOPBACK[0]}:{port}",
        "PREFECT__SERVER_EPHEMERAL": "1",  # Prefect's own word for it: no page, and no services that act by themselves
    }
    server = TemporaryServer(port, environment)
    atexit.register(server.stop)  # before Prefect's own, which therefore come first
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK[0], 0))
        return int(probe.getsockname()[1])


def _serve(port: int) -> None:
    """Be the server until standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    uvicorn = importlib.import_module("uvicorn")  # which whoever starts a server has no use for
    uvicorn.run("flows.service.guard:guarded_app", factory=True, host=LOOPBACK[0], port=port, log_level="error")


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
