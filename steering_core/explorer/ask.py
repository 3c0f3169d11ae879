"""Ask: one SELECT over the store's views, from somebody who is not trusted with this machine.

Three walls, each enough by itself for what it covers. The statement's syntax tree, from DuckDB's own parser, must be
one SELECT that names only views and harmless functions (`statement`). The connection is locked: no files but the
store's Parquet, no extensions, no settings (`box.lock`). And it lies in a process of its own, within the operating
system's bounds of time and memory (`children`; docs/decisions/0016-safe-sql.md). The page's own queries are trusted and
run here, so that nobody's question keeps them waiting.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from steering_core.explorer.box import lock
from steering_core.explorer.children import Children
from steering_core.explorer.queue import Busy
from steering_core.explorer.table_forms import TableForm
from steering_core.foundation.errors import QueryError
from steering_core.store import Store

log = logging.getLogger(__name__)

MAX_ROWS = 1_000  # that a page shows
MAX_DOWNLOAD_ROWS = 100_000  # of a file, and of a query of the page's own; whoever gets them is told of more
CUT = "x-steerflow-cut"  # the header that says so, with how many were kept
MAX_SECONDS = 10.0
MEMORY = 2 << 30  # bytes, of each process that answers
OWN_AT_ONCE = 4


@dataclass(frozen=True)
class SqlAnswer:
    """Rows of a query; `cut` says that there were more."""

    rows: pa.Table
    cut: bool


class Ask:
    """Questions to a store; safe to use from several threads."""

    def __init__(self, store: Store, seconds: float = MAX_SECONDS, memory: int = MEMORY) -> None:
        self._seconds = seconds
        self._store = store
        self._own = store.connect()
        lock(self._own, store, MEMORY)
        self._own_turns = threading.BoundedSemaphore(OWN_AT_ONCE)
        self._children = Children(str(store.root), memory, seconds)

    def close(self) -> None:
        """Close the connection, and end the processes."""
        self._children.close()
        self._own.close()

    def answer(self, sql: str, max_rows: int = MAX_ROWS) -> SqlAnswer:
        """At most `max_rows` rows of one SELECT.

        Raises QueryError for anything else, and beyond the bounds; Busy where too many ask already.
        """
        cut, content = self._children.ask(sql, max_rows, "arrow")
        return SqlAnswer(pa.ipc.open_stream(content).read_all(), cut)

    def written(self, sql: str, form: TableForm, max_rows: int) -> tuple[bool, bytes]:
        """Whether one SELECT has more than `max_rows` rows, and those as a file of that form. Raises as `answer`."""
        return self._children.ask(sql, max_rows, form)

    def own(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The rows of a query of this package's own; the log says where they were cut. Raises as `own_answer` does."""
        return self.own_answer(sql, parameters).rows

    def own_answer(self, sql: str, parameters: Sequence[Any] = ()) -> SqlAnswer:
        """At most `MAX_DOWNLOAD_ROWS` rows of a query of this package's own.

        Raises QueryError for parameters that do not fit it.
        """
        if not self._own_turns.acquire(timeout=self._seconds):
            raise Busy(f"the store was busy with the page's queries for {self._seconds:g} s: try again in a moment")
        cursor = self._own.cursor()
        timer = threading.Timer(self._seconds, cursor.interrupt)
        try:
            timer.start()
            rows: pa.Table = self._store.read(
                lambda: cursor.sql(sql, params=parameters).limit(MAX_DOWNLOAD_ROWS + 1).to_arrow_table(), sql
            )
        except duckdb.InterruptException as error:
            raise QueryError(f"stopped after {self._seconds:g} s: use `steer sql` for this query") from error
        except duckdb.Error as error:
            raise QueryError(str(error)) from None
        finally:
            timer.cancel()
            cursor.close()
            self._own_turns.release()
        if cut := rows.num_rows > MAX_DOWNLOAD_ROWS:
            log.warning("only the first %s rows are shown of: %s", f"{MAX_DOWNLOAD_ROWS:,}", " ".join(sql.split()))
        return SqlAnswer(rows.slice(0, MAX_DOWNLOAD_ROWS), cut)
