"""`store-maintenance`: what keeps a store whole and small, as one flow run a week.

prefect deployment run store-maintenance --param drop=true
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.service.faults import tell_faults_in_one_line
from flows.service.patience import publish
from flows.service.threads import end_threads_at_exit
from steering_core.foundation.errors import StoreDamaged
from steering_core.reports.markdown import markdown_table, markdown_text
from steering_core.store import Store, default_store, garbage, upkeep
from steering_core.store.wholeness import verify as verify_files


@task(cache_policy=NO_CACHE, persist_result=False)
def verify(store: Store) -> tuple[int, list[dict[str, Any]]]:
    """How many files are whole, and the damaged ones, which are set aside to be made again."""
    whole, faults = verify_files(store.folder)
    return whole, [dataclasses.asdict(fault) for fault in faults]


@task(cache_policy=NO_CACHE, persist_result=False)
def compact(store: Store) -> list[dict[str, Any]]:
    """Merge many small files into few."""
    return _rows(upkeep.compact, store)


@task(cache_policy=NO_CACHE, persist_result=False)
def collect(store: Store) -> list[dict[str, Any]]:
    """Drop rows that nothing refers to and that can be made again, once no run goes on."""
    return _rows(garbage.collect, store)


def _rows(what: Callable[[Store], Sequence[upkeep.Exchanged]], store: Store) -> list[dict[str, Any]]:
    return [dataclasses.asdict(exchanged) for exchanged in what(store)]


@flow(name="store-maintenance", persist_result=False)
def store_maintenance(store: str | None = None, drop: bool = False) -> dict[str, Any]:
    """Check every file, merge small ones, list or drop what nothing refers to; fails where files were damaged.

    Args:
        store: The store; STEERFLOW_STORE or data/store where it is left out.
        drop: Drop rows that nothing refers to; otherwise they are only listed.
    """
    tell_faults_in_one_line()
    end_threads_at_exit()
    opened = Store.existing(store or default_store())
    whole, damaged = verify(opened)
    merged = compact(opened)
    goes_on = not drop and garbage.run_goes_on(opened)
    unreferred = collect(opened) if drop else garbage.unreferred(opened)
    heading = f"# Maintenance of {markdown_text(str(opened.root))}"
    parts = [heading, f"{whole} files are whole, {len(damaged)} were damaged and set aside."]
    parts += [markdown_table(damaged), "## Merged", markdown_table(merged)]
    parts += ["## Dropped" if drop else "## Nothing refers to"]
    parts += ["A run goes on: it refers to its rows only at its end, so they may be among these."] if goes_on else []
    parts += [markdown_table(unreferred)]
    publish("\n\n".join(parts), "maintenance", f"Maintenance of {opened.root}")
    if damaged:
        raise StoreDamaged(f"{len(damaged)} files were damaged and set aside; run your specs again to make them anew")
    return {"whole": whole, "merged": merged, "unreferred": unreferred}
