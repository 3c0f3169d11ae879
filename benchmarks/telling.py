"""What the benchmarks print while they run, and the option that each of them has."""

import argparse
import time
from collections.abc import Callable
from typing import Any

LEFT_OUT = "left out: "


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


def left_out(what: str, reason: str) -> None:
    """Print that a part of a benchmark was not run, and why; tests/test_benchmarks.py looks for such lines."""
    say(f"{LEFT_OUT}{what}: {reason}")


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser of a benchmark's options, with `--tiny`, which every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tiny", action="store_true", help="one small round on a tiny random model: does it still run?"
    )
    return parser


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
