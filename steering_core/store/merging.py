"""Merging: many small files into few, while others read. A store does so by itself: no query opens thousands."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from steering_core.foundation.errors import StoreBusy
from steering_core.store.folder import Folder
from steering_core.store.names import PIN
from steering_core.store.tables import TABLES
from steering_core.store.wholeness import exchange, file_key, publish_for_exchange, read_whole, set_aside, withdraw

log = logging.getLogger(__name__)

SMALL = 32 << 20  # bytes: a file below is worth merging
MERGED = 512 << 20  # bytes in memory that one merged file is made of
MANY = 32  # files of one size class that a folder of a table may have before they are merged
_TOLD = 1000  # files: merging more takes seconds, and is logged
_CLASSES = (64 << 10, 1 << 20, SMALL)  # bytes: a file below each is of that size class


@dataclass(frozen=True)
class Exchanged:
    """Files of one table that gave way to others, with the rows and bytes before and after."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows_dropped: int = 0


def lock_name(table: str, under: str) -> str:
    """The name of the lock that is held to change the files of a table, or of one of its folders."""
    return f"{table}-{under}" if under else table


def by_folder(table: str, names: Sequence[str]) -> dict[str, list[str]]:
    """A table's files that hold rows, by the folder of the table they lie in: one a model for activations."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        under, _, file = name.removeprefix(f"{table}/").rpartition("/")
        if file != PIN and file.endswith(".parquet"):
            found[under].append(name)
    return dict(sorted(found.items()))


def merge_where_many(folder: Folder, files: Mapping[str, Sequence[str]]) -> None:
    """Merge the small files of every table's folder that has many and where nobody writes; `files` are just listed."""
    for table, names in files.items():
        for under, own in by_folder(table, names).items():
            if _classes(folder, own):
                with folder.try_lock(lock_name(table, under)) as held:
                    if held:
                        merge_many(folder, table, under)


def merge_many(folder: Folder, table: str, under: str) -> None:
    """Merge the small files of a table's folder where there are many; whoever calls holds its lock.

    Where somebody reads just now it is left for the next time.
    """
    for names in _classes(folder, by_folder(table, folder.names(lock_path(table, under))).get(under, [])):
        for batch in batches(folder, names):
            if len(batch) > _TOLD:
                log.info("merging %d small files of %s into one, this once", len(batch), lock_path(table, under))
            merge(folder, table, under, batch, wait=False)


def lock_path(table: str, under: str) -> str:
    """The folder of a table's files."""
    return f"{table}/{under}" if under else table


def _classes(folder: Folder, names: Sequence[str]) -> list[list[str]]:
    """The files of each size class that has many. Merging by class, a row is rewritten a few times at most."""
    if len(names) < MANY:
        return []
    classes: dict[int, list[str]] = defaultdict(list)
    for name in names:
        size = folder.size(name)
        if size < SMALL:
            classes[sum(size >= bound for bound in _CLASSES)].append(name)
    return [own for own in classes.values() if len(own) >= MANY]


def merge(folder: Folder, table: str, under: str, names: Sequence[str], wait: bool = True) -> Exchanged | None:
    """Merge those files into one; None where a reader was in the way and `wait` is False."""
    rows, whole = read_files(folder, table, names)
    return replace_files(folder, table, under, rows, whole, wait=wait)


def read_files(folder: Folder, table: str, names: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Files as one table, and the names of those that were whole; the others are set aside with a warning each.

    Activations are ordered by site, position and layer.
    """
    parts, whole = [], []
    for name in names:
        rows, fault = read_whole(folder, table, name)
        if rows is not None:
            parts.append(rows)
            whole.append(name)
        elif fault:
            set_aside(folder, name, fault)
    rows = pa.concat_tables(parts, promote_options="default") if parts else TABLES[table].schema.empty_table()
    if not folder.exclusive:
        rows = _once(rows, TABLES[table].key)
    if "activation" in rows.column_names:
        rows = rows.take(pc.sort_indices(rows, [(n, "ascending") for n in ("site", "position", "layer", "prompt_id")]))
    return rows, whole


def _once(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Each row once, by its key: two machines may have written it."""
    first: dict[tuple[object, ...], int] = {}
    for i, values in enumerate(zip(*(rows[name].to_pylist() for name in key), strict=True)):
        first.setdefault(values, i)
    return rows if len(first) == rows.num_rows else rows.take(pa.array(list(first.values()), pa.int64()))


def replace_files(
    folder: Folder, table: str, under: str, rows: pa.Table, old: Sequence[str], dropped: int = 0, wait: bool = True
) -> Exchanged | None:
    """Exchange the files `old` of a table for one of `rows`, or for none where there are no rows.

    Without `wait`, None where a reader is in the way. Raises StoreBusy where a reader takes very long; the table then
    stays as it was.
    """
    before = sum(folder.size(name) for name in old)
    new = f"{lock_path(table, under)}/{file_key(table, rows)}.parquet"
    if rows.num_rows:
        publish_for_exchange(folder, new, rows, _row_group_size(table, rows))
    try:
        exchanged = exchange(folder, [new] if rows.num_rows else [], old, wait)
    except StoreBusy:
        withdraw(folder, new)
        raise
    if not exchanged:
        withdraw(folder, new)
        return None
    after = folder.size(new) if rows.num_rows else 0
    return Exchanged(table, len(old), int(rows.num_rows > 0), before, after, dropped)


def _row_group_size(table: str, rows: pa.Table) -> int | None:
    """Rows of a layer, where a table has layers' activations."""
    if table != "activations":
        return None
    places = rows.group_by(["site", "position", "layer"]).aggregate([]).num_rows
    return max(1, rows.num_rows // max(1, places))


def batches(folder: Folder, names: Sequence[str]) -> Iterator[list[str]]:
    """Runs of at least two files that can be merged in memory."""
    batch: list[str] = []
    size = 0
    for name in names:
        more = folder.size(name) * 3  # bytes in memory, at most
        if batch and size + more > MERGED:
            if len(batch) > 1:
                yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    if len(batch) > 1:
        yield batch
