"""Progress of long steps: callbacks that hear how many of how many are done."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Hears (done, total) of one step."""

Notify = Callable[[str, int, int], None]
"""Hears (step, done, total) of several steps, each by its name."""


def silent(done: int, total: int) -> None:
    """Hear nothing of one step."""


def notify_nobody(step: str, done: int, total: int) -> None:
    """Hear nothing of several steps."""


__all__ = ["Notify", "Progress", "notify_nobody", "silent"]
