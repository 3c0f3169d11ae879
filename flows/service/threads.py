"""A quiet end for a process that ran flows.

Prefect's two event loops, and fsspec's, live in daemon threads, which Python leaves running while it takes modules
apart. What they still refer to is never freed, and nanobind (under DuckDB and MLX) prints a page of "leaks" at every
flow run's end.
"""

import atexit
import functools
import sys

from prefect._internal.concurrency import threads  # no public way in 3.8

SECONDS_TO_END = 5.0


@functools.cache
def end_threads_at_exit() -> None:
    """Have these event loops ended before the interpreter is; asking twice is asking once."""
    atexit.register(_end_threads)


def _end_threads() -> None:
    for loop in (threads._global_loop, threads._run_sync_loop):
        if loop is not None and loop.running:
            loop.shutdown()
            loop.thread.join(SECONDS_TO_END)
    _end_fsspec()


def _end_fsspec() -> None:
    """End the event loop with which fsspec reads object stores, where it was used."""
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is not None and asyn.loop[0] is not None and asyn.iothread[0] is not None:
        asyn.loop[0].call_soon_threadsafe(asyn.loop[0].stop)
        asyn.iothread[0].join(SECONDS_TO_END)
