"""`FairQueue`: who is next. Clients take turns, so one tab that asks for much does not keep the others waiting."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from steering_core.foundation.errors import SteerflowError

T = TypeVar("T")


class Busy(SteerflowError):
    """Too many wait already."""


class FairQueue(Generic[T]):
    """Waiting things, each of a client; iterating gives the order in which they will be served. Not thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[str, deque[T]]] = deque()  # clients in the order of their next turns

    def __len__(self) -> int:
        return sum(len(things) for _, things in self._waiting)

    def __iter__(self) -> Iterator[T]:
        turns = [list(things) for _, things in self._waiting]
        for turn in range(max(map(len, turns), default=0)):
            yield from (things[turn] for things in turns if turn < len(things))

    def put(self, client: str, thing: T) -> bool:
        """Let `thing` wait; whether there was room."""
        if len(self) >= self._limit:
            return False
        for waiting, things in self._waiting:
            if waiting == client:
                things.append(thing)
                return True
        self._waiting.append((client, deque([thing])))
        return True

    def take(self, fits: Callable[[T], bool]) -> T | None:
        """The first thing that `fits`, in the order of turns; its client goes to the end of the queue."""
        thing = next((thing for thing in self if fits(thing)), None)
        if thing is not None:
            self.remove(thing)
        return thing

    def remove(self, thing: T) -> bool:
        """Take `thing` out; whether it was there."""
        for entry in list(self._waiting):
            client, things = entry
            if thing in things:
                things.remove(thing)
                self._waiting.remove(entry)
                if things:
                    self._waiting.append((client, things))
                return True
        return False
