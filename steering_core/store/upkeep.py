"""Upkeep: what a store holds, and many small files made into few. `garbage` drops what nothing refers to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from steering_core.store.store import Store
from steering_core.store.tables import TABLES
from steering_core.store.wholeness import PINS, exchange, file_key, staged

SMALL = 32 << 20  # bytes: a file below is worth merging
MERGED = 512 << 20  # bytes in memory that one merged file is made of


def tables(store: Store) -> list[dict[str, Any]]:
    """Files, rows and bytes of every table."""
    found = []
    for table in TABLES:
        names = file_names(store, table)
        (count,) = store.rows(f'SELECT count(*) AS rows FROM raw."{table}"')
        sizes = sum(store.folder.size(name) for name in names)
        found.append({"table": table, "rows": count["rows"], "files": len(names), "bytes": sizes})
    return found


def reuse(store: Store) -> list[dict[str, Any]]:
    """What every run computed and what it found there, stage by stage, newest run first."""
    runs = store.rows("SELECT run_id, name, started_at, seconds, stages FROM raw.runs ORDER BY started_at DESC")
    return [
        {
            "run": run["name"],
            "started_at": run["started_at"],
            "seconds": run["seconds"],
            **{stage: f"{did['computed']} + {did['reused']}" for stage, did in json.loads(run["stages"]).items()},
        }
        for run in runs
    ]


@dataclass(frozen=True)
class Exchanged:
    """Files of one table that gave way to others, with the rows and bytes before and after."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows_dropped: int = 0


def compact(store: Store) -> list[Exchanged]:
    """Merge small files, table by table; activations by model, a row group per layer. Readers go on reading."""
    done = []
    for table in TABLES:
        for under in folders(store, table):
            with store.lock(f"{table}-{under}" if under else table):
                small = [n for n in file_names(store, table, under) if store.folder.size(n) < SMALL]
                for names in _batches(store, small):
                    rows = read_files(store, names)
                    done.append(replace_files(store, table, under, rows, names))
    return done


def replace_files(
    store: Store, table: str, under: str, rows: pa.Table, old: Sequence[str], dropped: int = 0
) -> Exchanged:
    """Exchange the files `old` of a table for one that holds `rows`, or for none."""
    before = sum(store.folder.size(name) for name in old)
    new = f"{table}/{under}/{file_key(table, rows)}.parquet".replace("//", "/")
    if rows.num_rows:
        store.folder.publish(staged(new), rows, _row_group_size(table, rows))
    exchange(store.folder, [new] if rows.num_rows else [], old)
    after = store.folder.size(new) if rows.num_rows else 0
    return Exchanged(table, len(old), int(rows.num_rows > 0), before, after, dropped)


def _row_group_size(table: str, rows: pa.Table) -> int | None:
    """Rows of a layer, where a table has layers' activations."""
    if table != "activations":
        return None
    places = rows.group_by(["site", "position", "layer"]).aggregate([]).num_rows
    return max(1, rows.num_rows // places)


def read_files(store: Store, names: Sequence[str]) -> pa.Table:
    """Files as one table; activations ordered by site, position and layer."""
    parts = []
    for name in names:
        with store.folder.open(name) as handle:
            parts.append(pq.ParquetFile(handle).read())
    rows = pa.concat_tables(parts, promote_options="default")
    if "activation" in rows.column_names:
        rows = rows.take(pc.sort_indices(rows, [(n, "ascending") for n in ("site", "position", "layer", "prompt_id")]))
    return rows


def _batches(store: Store, names: Sequence[str]) -> Iterator[list[str]]:
    """Runs of at least two files that can be merged in memory."""
    batch: list[str] = []
    size = 0
    for name in names:
        more = store.folder.size(name) * 3  # as it lies in memory, at most
        if batch and size + more > MERGED:
            if len(batch) > 1:
                yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    if len(batch) > 1:
        yield batch


def file_names(store: Store, table: str, under: str = "") -> list[str]:
    """The files of a table, or of one of its folders, that hold rows."""
    names = store.folder.names(f"{table}/{under}" if under else table)
    return [name for name in names if not name.endswith(PINS)]


def folders(store: Store, table: str) -> list[str]:
    """The folders of a table that hold files: one a model for activations, the table's own for the others."""
    return sorted({name.removeprefix(f"{table}/").rpartition("/")[0] for name in file_names(store, table)})
