"""The process in which strangers' SQL runs: `python -m steering_core.explorer.box DESCRIPTOR`.

It holds one locked connection to one store, answers one question after another over a socket, and may be killed at any
moment. DuckDB's memory limit leaves its functions out, and its interrupts wait for some of them; the operating system's
limits leave nothing out.
"""

import dataclasses
import json
import logging
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import duckdb
import pyarrow as pa

from steering_core.explorer.resident import address_space, held_by
from steering_core.explorer.statement import check, system_names, views_of
from steering_core.explorer.table_forms import written
from steering_core.foundation.errors import QueryError, SteerflowError, StoreError
from steering_core.store import Store
from steering_core.store.arrow_rows import arrow_rows
from steering_core.store.select import with_quotes_told

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20  # of an answer
MAX_QUESTION = 1 << 20
MAX_MESSAGE = 2_000  # letters of an error; DuckDB's repeat the query
MAX_THREADS = 4
KEPT = 4  # a process that keeps more than this part of its memory is replaced
INSTEAD = "narrow the query, or use `steer sql`"


@dataclass(frozen=True)
class BoxReply:
    """What the process says: ready, answer (then the rows follow), refused or fault (with a message)."""

    kind: Literal["ready", "answer", "refused", "fault"]
    message: str = ""
    cut: bool = False
    spent: bool = False  # this process holds on to memory: the next question should go to another

    def packed(self) -> bytes:
        """The reply as it is sent."""
        return json.dumps(dataclasses.astuple(self)).encode()

    @classmethod
    def unpacked(cls, content: bytes) -> "BoxReply":
        """The reply that was sent."""
        return cls(*json.loads(content))


def lock(connection: duckdb.DuckDBPyConnection, store: Store, memory: int) -> None:
    """Let the connection read the store's files and nothing else, load nothing, spill nothing, and stay like that."""
    folder = str(store.root).replace("'", "''")
    connection.execute(
        f"SET temp_directory = ''; SET memory_limit = '{memory >> 20}MiB'; SET python_enable_replacements = false; "
        "SET autoload_known_extensions = false; SET autoinstall_known_extensions = false; "
        f"SET allowed_directories = ['{folder}']; SET enable_external_access = false; SET lock_configuration = true"
    )


class Box:
    """A store's locked connection, and the limits within which it answers."""

    def __init__(self, store: str, memory: int, seconds: float) -> None:
        self._store = Store.existing(store)
        self._memory, self._seconds, self._size = memory, seconds, 0
        self._threads = min(MAX_THREADS, os.cpu_count() or 1)
        self._connection = self._store.connect()
        self._connection.execute(f"SET threads = {self._threads}")
        self._views, self._system = views_of(self._connection), system_names(self._connection)
        self._store.check()
        lock(self._connection, self._store, memory * 3 // 4)
        written(self._rows("SELECT 1 AS warm", 1), "arrow")  # so that no question pays for what the first one loads

    def limit(self) -> None:
        """Have the operating system refuse files, core dumps, and more memory than there is now plus what is allowed.

        macOS enforces no limit of memory: there whoever started the process watches its size (`children`).
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._size = address_space() or held_by(os.getpid())
        if address_space():
            resource.setrlimit(resource.RLIMIT_AS, (self._size + self._memory, self._size + self._memory))

    @property
    def spent(self) -> bool:
        """Whether so much memory was kept of what was answered that the next question would have less than it may."""
        return (address_space() or held_by(os.getpid())) - self._size > self._memory // KEPT

    def answer(self, asked: Mapping[str, Any]) -> tuple[BoxReply, bytes]:
        """The reply to a question (sql, max_rows, form), and its rows."""
        self._bound_time()
        try:
            rows = self._rows(asked["sql"], asked["max_rows"] + 1)
            cut = rows.num_rows > asked["max_rows"]
            shown = rows.slice(0, asked["max_rows"])
            _check_size(shown.nbytes)
            content = written(shown, asked["form"], cut)
            _check_size(len(content))
            return BoxReply("answer", cut=cut), content
        except (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException):
            return _refused(f"the query needs more than {shown_size(self._memory)} of memory: {INSTEAD}")
        except (duckdb.Error, StoreError, pa.ArrowException, UnicodeError) as error:
            return _refused(_paragraph(with_quotes_told(str(asked["sql"]), str(error))))
        except Exception as error:  # noqa: BLE001  (it goes into the server's log, and the next question is answered)
            return BoxReply("fault", f"{type(error).__name__}: {error}"[:MAX_MESSAGE]), b""

    def _rows(self, sql: str, max_rows: int) -> pa.Table:
        with self._connection.cursor() as cursor:
            check(cursor, sql, self._views, self._system)
            rows: pa.Table = self._store.read(lambda: arrow_rows(cursor.sql(sql).limit(max_rows)), sql)
        return rows

    def _bound_time(self) -> None:
        """Let the process compute for as long as one question may; it ends even where nobody is left to end it."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        more = (self._seconds + 1) * (self._threads + 1)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        until = int(used.ru_utime + used.ru_stime + more) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def shown_size(size: int) -> str:
    """Bytes in the unit that suits them: 2 GB, 64 MB."""
    return f"{size / (1 << 30):g} GB" if size >= 1 << 30 else f"{size >> 20} MB"


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise QueryError(f"the answer is {size >> 20} MiB: ask for fewer columns or rows, or use `steer sql`")


def _refused(message: str) -> tuple[BoxReply, bytes]:
    return BoxReply("refused", message), b""


def _paragraph(message: str) -> str:
    """A message without empty lines, and not longer than somebody reads."""
    lines = [line for line in message.splitlines() if line.strip()]
    text = "\n".join(lines)
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + " …"


def _serve(channel: Connection) -> None:
    try:
        box = Box(**json.loads(channel.recv_bytes(MAX_QUESTION)))
        box.limit()
    except SteerflowError as error:
        channel.send_bytes(BoxReply("refused", str(error)).packed())
        return
    channel.send_bytes(BoxReply("ready").packed())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C++ says as it dies is told better by whoever waits
    while True:
        reply, content = box.answer(json.loads(channel.recv_bytes(MAX_QUESTION)))
        channel.send_bytes(dataclasses.replace(reply, spent=box.spent).packed())
        if reply.kind == "answer":
            channel.send_bytes(content)


def main() -> None:
    """Serve until the other side closes."""
    channel = Connection(int(sys.argv[1]))
    try:
        _serve(channel)
    except (EOFError, ConnectionError):  # nobody is there any more
        return


if __name__ == "__main__":
    main()
