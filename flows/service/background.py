"""Background processes of one machine, known by a lock that the kernel frees when they die.

A process id in a file says little: the process may be gone and its number given to another. Here the process holds an
`flock` on that file for as long as it lives, so whether it lives is asked of the kernel, and a stale file is harmless.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SECONDS_TO_STOP = 20.0
_SECONDS_TO_WRITE = 2.0


@dataclass(frozen=True)
class Background:
    """One background process by name: its lock and id lie in `folder/NAME.pid`, its output in `folder/NAME.log`."""

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        """Where its standard output and error go."""
        return self.folder / f"{self.name}.log"

    @property
    def process_id(self) -> int | None:
        """Its process id; None where it does not run, or was started a moment ago by a process that died then."""
        if not self._file.exists():
            return None
        with self._file.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return _written_id(handle)
        return None

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it in a session of its own, unless it runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+") as held, self.log.open("a") as log:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            held.truncate(0)  # an earlier process's id is nobody's to stop
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                pass_fds=[held.fileno()],  # the lock goes with the process
            )
            held.write(str(process.pid))

    def stop(self) -> bool:
        """End it and what it started: SIGTERM first, SIGKILL after a while. Whether it ran."""
        return bool(stop_all([self]))

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


def stop_all(processes: Sequence[Background]) -> list[Background]:
    """End processes and what they started, all at once: SIGTERM first, SIGKILL after a while. Those that ran."""
    running = {process: number for process in processes if (number := process.process_id) is not None}
    for number in running.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(number, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while any(process.process_id for process in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    for number in running.values():
        if _group_lives(number):
            os.killpg(number, signal.SIGKILL)
    return list(running)


def _written_id(handle: IO[str]) -> int | None:
    """The id in a file whose lock is held; it is written just after the lock was taken."""
    deadline = time.monotonic() + _SECONDS_TO_WRITE
    while not (text := handle.read()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(text) if text else None


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
