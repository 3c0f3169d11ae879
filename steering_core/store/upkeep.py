"""Upkeep: what a store holds, and many small files made into few. `garbage` drops what nothing refers to."""

from typing import Any

from steering_core.store.merging import SMALL, Exchanged, batches, by_folder, lock_name, lock_path, merge
from steering_core.store.store import Store
from steering_core.store.tables import TABLES
from steering_core.store.values import stored_object

__all__ = ["Exchanged", "compact", "file_names", "reuse", "tables"]


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
            **_stages(run["stages"]),
        }
        for run in runs
    ]


def _stages(text: str) -> dict[str, str]:
    """What each stage of a run computed and reused."""
    found = stored_object("raw.runs.stages", text).items()
    return {stage: f"{did.get('computed')} + {did.get('reused')}" for stage, did in found if isinstance(did, dict)}


def compact(store: Store) -> list[Exchanged]:
    """Merge small files, table by table; activations by model, a row group per layer. Readers go on reading."""
    done = []
    for table in TABLES:
        for under in by_folder(table, store.folder.names(table)):
            with store.lock(lock_name(table, under)):
                small = [n for n in _own(store, table, under) if store.folder.size(n) < SMALL]
                for names in batches(store.folder, small):
                    if merged := merge(store.folder, table, under, names):
                        done.append(merged)
    return done


def _own(store: Store, table: str, under: str) -> list[str]:
    return by_folder(table, store.folder.names(lock_path(table, under))).get(under, [])


def file_names(store: Store, table: str) -> list[str]:
    """The files of a table that hold rows."""
    return [name for own in by_folder(table, store.folder.names(table)).values() for name in own]
