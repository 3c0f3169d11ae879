"""Wholeness: every file of a store is what it says, and files are exchanged for others at once or not at all."""

import errno
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.foundation.errors import DiskFull, StoreDamaged, StoreError
from steering_core.foundation.keys import content_key
from steering_core.store.files import LocalFolder
from steering_core.store.folder import Folder
from steering_core.store.footers import misfit, pin_content
from steering_core.store.names import DAMAGED, PIN, STAGING, checked_table_file
from steering_core.store.tables import TABLES

log = logging.getLogger(__name__)

_EXCHANGE = f"{STAGING}/exchange.json"


def file_key(table: str, rows: pa.Table) -> str:
    """The name of a file that holds `rows`: a key of their keys."""
    return content_key(*(rows[name].to_pylist() for name in TABLES[table].key))


@dataclass(frozen=True)
class Fault:
    """A file that is torn, foreign or changed, why, and where it was set aside."""

    name: str
    reason: str
    set_aside: str


def verify(folder: Folder) -> tuple[int, list[Fault]]:
    """Read every file whole, checksums included, and set faulty ones aside: the number of whole files, and the faults.

    What was set aside is made again by the next run that needs it. A missing schema is written at once.
    """
    faults = set_aside_damaged(folder)
    pin_again(folder)
    whole = sum(len(folder.names(table)) for table in TABLES)
    for left in folder.sweep():
        log.warning("%s was left half written by a process that is gone: deleted", left)
    return whole, faults


def mend(folder: Folder, tables: Iterable[str]) -> bool:
    """Set damaged files of those tables aside and write missing schemas again, with a warning each; whether any was."""
    faults, unpinned = set_aside_damaged(folder, tables), pin_again(folder)
    return bool(faults or unpinned)


def pin_again(folder: Folder) -> list[str]:
    """Write the schemas that are missing, with a warning each; their tables. An object store has none as files."""
    if not isinstance(folder, LocalFolder):
        return []
    unpinned = [table for table in TABLES if not folder.exists(_pin(table))]
    pin(folder, unpinned)
    for table in unpinned:
        log.warning("%s was missing: written again", _pin(table))
    return unpinned


def pin(folder: Folder, tables: Iterable[str]) -> None:
    """Write those tables' schemas as files of no rows: a pattern that matches no file is an error in DuckDB."""
    for table in tables:
        folder.write(_pin(table), pin_content(table))


def _pin(table: str) -> str:
    return f"{table}/{PIN}"


def set_aside_damaged(folder: Folder, tables: Iterable[str] = TABLES) -> list[Fault]:
    """Check every file of those tables and move what is at fault out of them, with a warning each."""
    found = ((name, fault_in(folder, table, name)) for table in tables for name in folder.names(table))
    return [set_aside(folder, name, reason) for name, reason in found if reason]


def set_aside(folder: Folder, name: str, reason: str) -> Fault:
    """Move a file that is at fault out of its table, with a warning. Raises StoreDamaged where it cannot be moved."""
    to = f"{DAMAGED}/{name.replace('/', '-')}"
    while folder.exists(to):  # an earlier one of that name, which is kept
        to = f"{DAMAGED}/again-{to.removeprefix(f'{DAMAGED}/')}"
    fault = Fault(name, reason, to)
    try:
        folder.move(name, to)
    except DiskFull:
        raise
    except StoreError as error:
        raise StoreDamaged(
            f"{folder.root}/{name} is damaged ({reason}), and it cannot be set aside, since this process may not write "
            "there: copy the store, then run `steer store verify --store COPY`"
        ) from error
    log.warning("%s is damaged (%s): set aside as %s, to be made again", name, reason, fault.set_aside)
    return fault


def fault_in(folder: Folder, table: str, name: str) -> str | None:
    """What is wrong with one file of a table; None where nothing is, or the file is gone."""
    return read_whole(folder, table, name)[1]


def read_whole(folder: Folder, table: str, name: str) -> tuple[pa.Table | None, str | None]:
    """The rows of one file of a table, or what is wrong with it; neither where it is gone."""
    if not name.endswith(".parquet"):
        return None, "not a Parquet file"
    schema = TABLES[table].schema
    try:
        with folder.open(name) as handle:
            rows = pq.ParquetFile(handle, page_checksum_verification=True).read()
    except FileNotFoundError:
        return None, None  # exchanged for another since it was listed
    except (OSError, pa.ArrowException) as error:
        if getattr(error, "errno", None) not in (None, errno.EIO):  # of the system, not of the file's contents
            raise StoreError(f"{folder.root}/{name} cannot be read ({error}): have it made readable") from error
        return None, str(error).splitlines()[0]
    if wrong := misfit(rows.schema, table):
        return None, wrong
    try:
        rows = _in_types(rows, schema)
    except pa.ArrowException as error:
        return None, str(error).splitlines()[0]
    if empty := [column for column in TABLES[table].filled if column in rows.column_names and _nulls(rows[column])]:
        return None, f"nulls in {', '.join(empty)}, which no row of {table} leaves empty"
    path = PurePosixPath(name)
    if path.name != PIN and path.stem != file_key(table, rows):
        return None, "its rows are not those that its name says"
    return rows, None


def _in_types(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows, each column in its table's own type, as other tools widen numbers; lists may have a fixed length.

    Raises pa.ArrowException for values that its type cannot have.
    """
    for place, field in enumerate(rows.schema):
        wanted = schema.field(field.name).type
        if field.type != wanted and not pa.types.is_list(wanted):
            rows = rows.set_column(place, field.name, rows.column(place).cast(wanted))
    return rows


def _nulls(column: pa.ChunkedArray) -> int:
    """How many values of a column are null, those within its lists too."""
    within = [chunk.flatten().null_count for chunk in column.chunks] if pa.types.is_nested(column.type) else []
    return int(column.null_count + sum(within))


# -- exchange --------------------------------------------------------------------------------------------------------


def publish_for_exchange(folder: Folder, name: str, rows: pa.Table, row_group_size: int | None) -> None:
    """Write the file that is to take the place of others.

    In a local folder it is staged. In an object store it takes its place at once, as the views show each row once.
    """
    folder.publish(_staged(name) if folder.exclusive else name, rows, row_group_size)


def withdraw(folder: Folder, name: str) -> None:
    """Delete a file that was to take the place of others and did not."""
    if folder.exclusive:
        folder.remove(_staged(name))


def exchange(folder: Folder, new: Sequence[str], old: Sequence[str], wait: bool = True) -> bool:
    """Have files that were published for it take the place of the files `old`, at once; whether that is done.

    Readers of this machine see all of the old files or all of the new ones: they share the lock `layout`, which is held
    alone here. With `wait` this waits for the readers, and later readers wait for it; without, nothing is done while
    anybody reads. If the process is killed, the next one that opens the store or exchanges files finishes it. Raises
    StoreBusy where a reader takes very long.
    """
    if not folder.exclusive:  # the views show a row once: for a moment both may be there
        for name in sorted(set(old) - set(new)):
            folder.remove(name)
        return True
    if wait:
        with folder.exchanging():
            _exchange_planned(folder, new, old)
        return True
    with folder.try_exchanging() as held:
        if held:
            _exchange_planned(folder, new, old)
    return held


def _exchange_planned(folder: Folder, new: Sequence[str], old: Sequence[str]) -> None:
    _finish(folder)  # what another process, killed since this one opened the store, has begun
    folder.write(_EXCHANGE, json.dumps({"new": list(new), "old": list(old)}).encode())
    _exchange(folder, new, old)


def _staged(name: str) -> str:
    return f"{STAGING}/{name}"


def finish_exchange(folder: Folder) -> None:
    """Finish the exchange that a killed process has begun. A plan that is none of ours is set aside, with a warning."""
    if folder.exclusive and folder.exists(_EXCHANGE):
        with folder.exchanging():
            _finish(folder)


def _finish(folder: Folder) -> None:
    if not folder.exists(_EXCHANGE):
        return
    try:
        new, old = _plan(json.loads(folder.read(_EXCHANGE)))
    except (ValueError, RecursionError, StoreDamaged) as error:
        reason = str(error).splitlines()[0] if str(error) else "no JSON"
        set_aside(folder, _EXCHANGE, reason)
        return
    if lost := [name for name in new if not folder.exists(_staged(name)) and not folder.exists(name)]:
        set_aside(folder, _EXCHANGE, f"{lost[0]}, which should take the place of others, is not there")
        return
    _exchange(folder, new, old)


def _plan(found: Any) -> tuple[list[str], list[str]]:
    """The files to come and to go, each a file of a table. Raises StoreDamaged for anything else."""
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in ("new", "old")):
        raise StoreDamaged("it does not list the files to come and to go")
    return [checked_table_file(n) for n in found["new"]], [checked_table_file(n) for n in found["old"]]


def _exchange(folder: Folder, new: Sequence[str], old: Sequence[str]) -> None:
    for name in new:
        if folder.exists(_staged(name)):
            folder.move(_staged(name), name)
    for name in set(old) - set(new):
        folder.remove(name)
    folder.remove(_EXCHANGE)
