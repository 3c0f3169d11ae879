"""Run by tests in a process of its own: stores to be opened, and killed while they are. A fork for each line.

A line is `n path`: the child opens the store at `path` and is killed with SIGKILL at the n-th thing that Python asks of
the file system there (0: never). Its exit status is printed: -9 where it was killed, 0 where it was done before.
"""

import os
import signal
import sys
from typing import Any

from steering_core.store import Store

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "os.listdir", "os.utime", "fcntl.flock")


def run(n: int, path: str) -> None:
    """Open the store, and die at the n-th event."""
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS:
            seen += 1
            if seen == n:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    Store(path).rows("SELECT count(*) FROM vectors")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            number, path = line.rstrip("\n").split(" ", 1)
            run(int(number), path)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{ended}\n".encode())
