"""`Kept`: what was made of the store's rows, for as long as the store holds the same files.

A store's files are immutable and named by what is in them, so the same names mean the same rows. Listing them is far
cheaper than asking, and a page that is opened again, or by another tab, is answered from here.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from steering_core.foundation.keys import content_key
from steering_core.store import TABLES, Store

T = TypeVar("T")
MOST = 256


class Kept:
    """Values by key, all dropped when the store's files change. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._version = ""
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def of(self, key: Hashable, made: Callable[[], T]) -> T:
        """What `made` gives now, or gave when the store held the same files. What it raises is not kept."""
        version = self._files()  # listed before the rows are read: what comes in between is seen next time
        with self._lock:
            if version != self._version:
                self._values.clear()
                self._version = version
            if key in self._values:
                self._values.move_to_end(key)
                found: T = self._values[key]
                return found
        value = made()
        with self._lock:
            if version == self._version:
                self._values[key] = value
                while len(self._values) > MOST:
                    self._values.popitem(last=False)
        return value

    def _files(self) -> str:
        return content_key([self._store.folder.names(table) for table in TABLES])
