"""Wholeness: every file of a store is what it says, and files are exchanged for others at once or not at all."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.keys import content_key
from steering_core.store.files import Folder
from steering_core.store.tables import TABLES

log = logging.getLogger(__name__)

DAMAGED, STAGING = "damaged", "staging"
_EXCHANGE = f"{STAGING}/exchange.json"
PINS = "schema.parquet"  # of no rows, in every table's folder


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
    """Read every file whole, checksums included, and set aside those at fault; how many files are well, and the faults.

    What was set aside is made again by the next run that needs it, a missing schema at once.
    """
    faults = set_aside_damaged(folder)
    _pin_again(folder)
    whole = sum(len(folder.names(table)) for table in TABLES)
    for left in folder.sweep():
        log.warning("%s was left half written by a process that is gone: deleted", left)
    return whole, faults


def mend(folder: Folder) -> bool:
    """Set damaged files aside and write missing schemas again, with a warning each; whether there was any."""
    faults, unpinned = set_aside_damaged(folder), _pin_again(folder)
    return bool(faults or unpinned)


def _pin_again(folder: Folder) -> list[str]:
    """Write the schemas that are missing, with a warning each; their tables."""
    unpinned = [table for table in TABLES if not folder.exists(_pin(table))]
    pin(folder, unpinned)
    for table in unpinned:
        log.warning("%s was missing: written again", _pin(table))
    return unpinned


def pin(folder: Folder, tables: Iterable[str]) -> None:
    """Write those tables' schemas as files of no rows: a pattern that matches no file is an error in DuckDB."""
    for table in tables:
        sink = pa.BufferOutputStream()
        pq.write_table(TABLES[table].schema.empty_table(), sink)
        folder.write(_pin(table), sink.getvalue().to_pybytes())


def _pin(table: str) -> str:
    return f"{table}/{PINS}"


def set_aside_damaged(folder: Folder) -> list[Fault]:
    """Check every file of every table and move those at fault out of it, with a warning each."""
    faults = []
    for table in TABLES:
        for name in folder.names(table):
            if reason := fault_in(folder, table, name):
                fault = Fault(name, reason, f"{DAMAGED}/{name.replace('/', '-')}")
                folder.move(name, fault.set_aside)
                log.warning("%s is damaged (%s): set aside as %s, to be made again", name, reason, fault.set_aside)
                faults.append(fault)
    return faults


def fault_in(folder: Folder, table: str, name: str) -> str | None:
    """What is wrong with one file of a table; None where it is whole and its own."""
    if not name.endswith(".parquet"):
        return "not a Parquet file"
    schema = TABLES[table].schema
    try:
        with folder.open(name) as handle:
            rows = pq.ParquetFile(handle, page_checksum_verification=True).read()
    except FileNotFoundError:
        return None  # exchanged for another since it was listed
    except (OSError, pa.ArrowException) as error:
        return str(error).splitlines()[0]
    if strange := set(rows.column_names) - set(schema.names):
        return f"columns that {table} does not have: {', '.join(sorted(strange))}"
    if lacking := set(TABLES[table].key) - set(rows.column_names):
        return f"no column {', '.join(sorted(lacking))}"
    path = PurePosixPath(name)
    if path.name != PINS and path.stem != file_key(table, rows):
        return "its rows are not those that its name says"
    return None


def exchange(folder: Folder, new: Sequence[str], old: Sequence[str]) -> None:
    """Have files that lie staged (`staged(name)`) take the place of the files `old`, at once.

    Readers of this machine see either: they share the lock `layout`. Killed in between, the next that opens the store
    finishes it.
    """
    with folder.lock("layout"):
        folder.write(_EXCHANGE, json.dumps({"new": list(new), "old": list(old)}).encode())
        _exchange(folder, new, old)


def staged(name: str) -> str:
    """Where a file lies before it is exchanged for others."""
    return f"{STAGING}/{name}"


def finish_exchange(folder: Folder) -> None:
    """Finish the exchange that a killed process has begun."""
    if folder.exists(_EXCHANGE):
        with folder.lock("layout"):
            if folder.exists(_EXCHANGE):
                plan = json.loads(folder.read(_EXCHANGE))
                _exchange(folder, plan["new"], plan["old"])


def _exchange(folder: Folder, new: Sequence[str], old: Sequence[str]) -> None:
    for name in new:
        if folder.exists(staged(name)):
            folder.move(staged(name), name)
    for name in set(old) - set(new):
        folder.remove(name)
    folder.remove(_EXCHANGE)
