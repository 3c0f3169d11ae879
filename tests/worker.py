"""Run by tests in a process of its own: verbs of a store, and killed in the midst of them. A fork for each line.

A line is `verb n spec path`: the child does the verb on the store at `path` and is killed with SIGKILL at the n-th
thing that Python asks of the file system beside it (0: never). Its exit status (-9: killed, 0: done, 1: failed) and the
number of things asked are printed. `export`, `bake`, `adapter` and `pack` write beside the store, to `OUTPUTS`.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.optimize  # (both are imported before the fork)
import scipy.stats  # noqa: F401

from steering_core.baking.bake import bake
from steering_core.cli.vectors.deriving import derive
from steering_core.models.mlx_lm import lazy_network  # noqa: F401  (imported before the fork)
from steering_core.packs.pack import pack
from steering_core.pipeline import discover
from steering_core.spec_files import load_spec
from steering_core.store import Store, garbage, upkeep, wholeness
from steering_core.store.export import export_query
from steering_core.vectors.library import find_all

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "os.utime")
OUTPUTS = {"export": "out.parquet", "bake": "baked", "adapter": "adapter", "pack": "packed"}
"""Verbs that write beside the store, and what."""
VECTOR = "loud/mean_difference/1"


def output(verb: str, store: Store) -> Path:
    """What a verb writes beside a store."""
    return Path(str(store.root)).parent / OUTPUTS[verb]


def train(store: Store, spec: str) -> None:
    """Derive vectors by a method that asks the model, as `steer vectors derive` does."""
    wanted = load_spec(Path(spec))
    with contextlib.redirect_stdout(sys.stderr):
        derive(
            wanted.models[0], wanted.concepts[0], method=["gradient"], layers="1,2", train_layers="1,2", controls=1,
            draws=4, store=str(store.root),
        )  # fmt: skip


def baked(store: Store, spec: str, verb: str, steer: str) -> None:
    """Bake the spec's model with a vector of the store inside it."""
    out = output(verb, store)
    bake(load_spec(Path(spec)).models[0], steer, out, store=str(store.root), adapter=verb == "adapter", measure=False)


VERBS: dict[str, Callable[[Store, str], object]] = {
    "run": lambda store, spec: discover.run(load_spec(Path(spec)), store),
    "train": train,
    "compact": lambda store, spec: upkeep.compact(store),
    "gc": lambda store, spec: garbage.collect(store),
    "export": lambda store, spec: export_query(store, "SELECT * FROM raw.vectors", output("export", store)),
    "bake": lambda store, spec: baked(store, spec, "bake", f"30%*{VECTOR} @all"),
    "adapter": lambda store, spec: baked(store, spec, "adapter", f"!{VECTOR} @all"),
    "pack": lambda store, spec: pack(store, find_all(store, VECTOR), output("pack", store)),
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
