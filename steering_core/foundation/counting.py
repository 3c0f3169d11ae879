"""Work: what a stage's call did, counted alike in every stage. Known without MLX."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Work:
    """What forward passes cost: their number, and rows x tokens of all."""

    forward_passes: int = 0
    tokens: int = 0

    def add(self, rows: int, length: int) -> None:
        """Count one pass over `rows` sequences of `length` tokens."""
        self.forward_passes += 1
        self.tokens += rows * length

    def __add__(self, other: "Work") -> "Work":
        return Work(self.forward_passes + other.forward_passes, self.tokens + other.tokens)

    def __sub__(self, other: "Work") -> "Work":
        return Work(self.forward_passes - other.forward_passes, self.tokens - other.tokens)


@dataclass
class Done:
    """What one call of a stage did: the keys of all that was wanted, how many it made and how many were there.

    It counts the stage's own things: prompts, vectors, texts, measurements.
    """

    ids: list[str] = field(default_factory=list)
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    work: Work = field(default_factory=Work)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time inside the `with` to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def __add__(self, other: "Done") -> "Done":
        ids = list(dict.fromkeys([*self.ids, *other.ids]))
        computed, reused = self.computed + other.computed, self.reused + other.reused
        return Done(ids, computed, reused, self.seconds + other.seconds, self.work + other.work)
