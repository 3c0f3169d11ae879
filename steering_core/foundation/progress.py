"""Progress of a long step: a callback that hears how many of how many are done."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Hear nothing."""


__all__ = ["Progress", "silent"]
