"""`Work` and `Done`: what a stage computed, and for what, counted alike in every stage. Needs no MLX."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Work:
    """What was computed, and what that cost. Passes, calls and stages count in it, and it adds up over a run.

    `computed` and `reused` count a stage's own things: prompts, vectors, texts, measurements. `tokens` is rows x tokens
    of all forward passes. Its fields are the stage's part of a run's report.
    """

    computed: int = 0
    reused: int = 0
    forward_passes: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, rows: int, length: int) -> None:
        """Count one pass over `rows` sequences of `length` tokens."""
        self.forward_passes += 1
        self.tokens += rows * length

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time inside the `with` to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def __add__(self, other: "Work") -> "Work":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Work(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __sub__(self, other: "Work") -> "Work":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Work(*(a - b for a, b in zip(mine, theirs, strict=True)))


@dataclass
class Done:
    """What one call of a stage did: the keys of all that was wanted, there now, and the work that it took."""

    ids: list[str] = field(default_factory=list)
    work: Work = field(default_factory=Work)

    def __add__(self, other: "Done") -> "Done":
        return Done(list(dict.fromkeys([*self.ids, *other.ids])), self.work + other.work)
