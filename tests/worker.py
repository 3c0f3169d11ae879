"""Run by tests in a process of its own: verbs of a store, and killed in the midst of them. A fork for each line.

A line is `verb n spec path`: the child does the verb on the store at `path` and is killed with SIGKILL at the n-th
thing that Python asks of the file system beside it (0: never). Its exit status (-9: killed, 0: done, 1: failed) and the
number of things asked are printed.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.optimize  # (both are imported before the fork)
import scipy.stats  # noqa: F401

from steering_core.models.mlx_lm import lazy_network  # noqa: F401  (imported before the fork)
from steering_core.pipeline import discover
from steering_core.spec import load_spec
from steering_core.store import Store, garbage, upkeep, wholeness
from steering_core.store.export import export_query

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "os.utime")
VERBS: dict[str, Callable[[Store, str], object]] = {
    "run": lambda store, spec: discover.run(load_spec(Path(spec)), store),
    "compact": lambda store, spec: upkeep.compact(store),
    "gc": lambda store, spec: garbage.collect(store),
    "export": lambda store, spec: export_query(
        store, "SELECT * FROM raw.vectors", Path(f"{store.root}/../out.parquet")
    ),
    "verify": lambda store, spec: wholeness.verify(store.folder),
}


def work(verb: str, n: int, spec: str, path: str) -> int:
    """Do the verb, and die at the n-th event; how many there were."""
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(os.path.dirname(path)):  # noqa: PTH120
            seen += 1
            if seen == n:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    VERBS[verb](Store(path), spec)
    return seen


def answer(line: str) -> str:
    """What a fork of this process makes of a line."""
    verb, n, spec, path = line.rstrip("\n").split("\t")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(work(verb, int(n), spec, path)).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  (told to whoever waits)
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = os.read(reader, 100).decode() or "0"
    os.close(reader)
    return f"{ended} {seen}\n"


if __name__ == "__main__":
    for line in sys.stdin:
        os.write(1, answer(line).encode())
