"""What the benchmarks print while they run."""

import time
from collections.abc import Callable
from typing import Any


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


def told() -> Callable[[str, int, int], None]:
    """A notification that prints how far a step is, every ten seconds and at its end."""
    last = 0.0

    def notify(what: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last > 10:
            last = time.perf_counter()
            say(f"  {what}: {done} of {total}")

    return notify


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned."""
    started = time.perf_counter()
    value = function()
    return time.perf_counter() - started, value
