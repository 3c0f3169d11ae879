"""Lanes: independent passes side by side on a CPU's cores.

MLX computes one operation at a time on a CPU, in one thread, and only BLAS takes more. Two passes in two streams, each
with half of BLAS's threads, therefore end sooner than one after the other: 1.4 times on two cores that other work
shares (docs/log.md). MLX takes their operations in turns only where it walks graphs breadth first, for which
`steering_core.backend` sets a limit. A GPU has one lane.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from steering_core.backend.blas import limited_threads, usable_cores
from steering_core.backend.mlx import mx, on_cpu

Built = TypeVar("Built")

_MOST = 4  # passes at once: each holds its own memory
_here = threading.local()


def lanes() -> int:
    """How many passes run at once here."""
    return min(usable_cores(), _MOST) if on_cpu() else 1


def together(starts: Sequence[Callable[[], Built]], arrays: Callable[[Built], Any]) -> list[Built]:
    """What each of at most `lanes()` functions builds, in a lane of its own, with the evaluation of its `arrays` begun.

    Each lane multiplies on its share of the cores.
    """
    if len(starts) == 1:
        only = starts[0]()
        mx.async_eval(arrays(only))
        return [only]
    found = []
    for start, stream in zip(starts, _streams(len(starts)), strict=True):
        with mx.stream(stream):
            found.append(start())
    with limited_threads(max(1, usable_cores() // len(starts))):
        mx.eval([arrays(one) for one in found])
    return found


def _streams(n: int) -> list[mx.Stream]:
    """The first `n` streams of this thread, which keeps them: behind each is a thread of MLX's that never ends."""
    made: list[mx.Stream] = _here.__dict__.setdefault("streams", [])
    while len(made) < n:
        made.append(mx.new_stream(mx.default_device()))
    return made[:n]
