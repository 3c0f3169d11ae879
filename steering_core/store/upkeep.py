"""Upkeep: what a store holds, many small files made into few, and activations dropped that nothing refers to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from steering_core.store.store import Store
from steering_core.store.tables import TABLES
from steering_core.store.wholeness import exchange, file_key, staged

SMALL = 32 << 20  # bytes: a file below is worth merging
MERGED = 512 << 20  # bytes in memory that one merged file is made of
_PINS = "schema.parquet"
_REFERRED = """
SELECT v.model_id, unnest(v.prompt_ids) AS prompt_id FROM raw.vectors v
UNION
SELECT r.model_id, p.prompt_id
FROM (SELECT unnest(model_ids) AS model_id, concept_ids FROM raw.runs) r
JOIN raw.models m USING (model_id)
JOIN raw.pairs p ON list_contains(r.concept_ids, p.concept_id) AND p.tokenizer_id = m.tokenizer_id
"""


def tables(store: Store) -> list[dict[str, Any]]:
    """Files, rows and bytes of every table."""
    found = []
    for table in TABLES:
        names = _files(store, table)
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
        for under in _folders(store, table):
            with store.lock(f"{table}-{under}" if under else table):
                small = [n for n in _files(store, table, under) if store.folder.size(n) < SMALL]
                for names in _batches(store, small):
                    rows = _read(store, names)
                    done.append(_replace(store, table, under, rows, names))
    return done


def unreferred(store: Store) -> list[dict[str, Any]]:
    """Activations that no vector was made of and no run's concepts use: prompts, rows and bytes by model."""
    return store.rows(
        f"WITH referred AS ({_REFERRED}) "
        "SELECT m.name AS model, a.model_id, count(DISTINCT prompt_id) AS prompts, count(*) AS rows, "
        "CAST(sum(4 * len(activation)) AS BIGINT) AS bytes "
        "FROM raw.activations a LEFT JOIN raw.models m USING (model_id) "
        "ANTI JOIN referred USING (model_id, prompt_id) GROUP BY ALL ORDER BY ALL"
    )


def collect(store: Store) -> list[Exchanged]:
    """Drop the rows of `unreferred`, file by file."""
    done = []
    for under in _folders(store, "activations"):
        with store.lock(f"activations-{under}"):
            kept = store.query(f"SELECT prompt_id FROM ({_REFERRED}) WHERE model_id = ?", [under])["prompt_id"]
            for name in _files(store, "activations", under):
                rows = _read(store, [name])
                keep = rows.filter(pc.is_in(rows["prompt_id"], value_set=kept.combine_chunks()))
                if keep.num_rows < rows.num_rows:
                    done.append(_replace(store, "activations", under, keep, [name], rows.num_rows - keep.num_rows))
    return done


def _replace(store: Store, table: str, under: str, rows: pa.Table, old: Sequence[str], dropped: int = 0) -> Exchanged:
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


def _read(store: Store, names: Sequence[str]) -> pa.Table:
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


def _files(store: Store, table: str, under: str = "") -> list[str]:
    names = store.folder.names(f"{table}/{under}" if under else table)
    return [name for name in names if not name.endswith(_PINS)]


def _folders(store: Store, table: str) -> list[str]:
    """The folders of a table that hold files: one a model for activations, the table's own for the others."""
    return sorted({name.removeprefix(f"{table}/").rpartition("/")[0] for name in _files(store, table)})
