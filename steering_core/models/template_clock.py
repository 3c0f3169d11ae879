"""The clock that chat templates see: it stands still, so that a prompt has the same tokens tomorrow.

Templates ask transformers for the time with `strftime_now(format)`, which asks `datetime.now()`; neither can be given
as an argument. So transformers' template module gets a `datetime` of ours, whose `now` is a date while a template is
rendered `at` it, and the real time otherwise.
"""

import contextlib
import datetime
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Self

from transformers.utils import chat_template_utils

_shown: ContextVar[datetime.date | None] = ContextVar("shown", default=None)


class _Clock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        """The shown date inside `at`, the real time elsewhere."""
        date = _shown.get()
        return cls(date.year, date.month, date.day, tzinfo=tz) if date else super().now(tz)


chat_template_utils.datetime = _Clock  # type: ignore[attr-defined]


@contextlib.contextmanager
def at(date: datetime.date) -> Iterator[None]:
    """Have templates that are rendered inside the `with`, in this thread, see midnight of `date`."""
    token = _shown.set(date)
    try:
        yield
    finally:
        _shown.reset(token)
