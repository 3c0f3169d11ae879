"""Run by a test in a process of its own: runs, compaction, gc and readers on one store at once, a fork of it each.

Its arguments are the store and the specs. What each fork did is printed as JSON, and its exit code (0: no error). The
forks begin together, before there is a store. The loops end with a round that begins when all runs have ended.
"""

import functools
import json
import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.optimize  # (both are imported before the fork)
import scipy.stats  # noqa: F401

from steering_core.models.mlx_lm import lazy_network  # noqa: F401  (imported before the fork)
from steering_core.pipeline import discover
from steering_core.spec_files import load_spec
from steering_core.store import TABLES, Store, garbage, upkeep
from tests.stored import fill, identity, made_up_concept, planted_directions

LONGEST = 600  # seconds that a fork may live: one that hangs, or that nobody waits for, is ended by its own alarm
COLLECTED = ("activations", "pairs", "concepts", "prompts")  # the tables that hold what gc drops here
SEEN_WHOLE = ("models", "vectors", "qualities", "generations", "measurements", "scores", "recommendations", "runs")
JOINED = ("run_stages", "activations", "labels", "vector_quality", "vector_similarity", "leaderboard", "dose_response")
Done = Counter[str]


def run(store: Store, spec: str) -> Done:
    """Do a spec; the rows that its stages computed and found, of those that did anything."""
    report = discover.run(load_spec(Path(spec)), store)
    return +Counter({name: did["computed"] + did["reused"] for name, did in report["stages"].items()})


def compact(store: Store) -> Done:
    """Merge small files; how many gave way."""
    return Counter(rounds=1, merged=sum(done.files_before for done in upkeep.compact(store)))


def litter_and_collect(store: Store) -> Done:
    """Store rows that nothing refers to, and have gc drop them; how many it dropped of each table."""
    model, concept = identity(), made_up_concept("unused", 4)
    with store.lock(f"activations-{model.model_id}"):
        fill(store, model, concept, planted_directions())
    done = Counter(rounds=1)
    for exchanged in garbage.collect(store):
        done[exchanged.table] += exchanged.rows_dropped
    return done


class Reader:
    """Asks every table: no row may be there twice, and none may go that gc has no reason to drop."""

    def __init__(self) -> None:
        self._before: dict[str, set[tuple[Any, ...]]] = {name: set() for name in TABLES}

    def __call__(self, store: Store) -> Done:
        for name, table in TABLES.items():
            keys = once(store, f'raw."{name}"', table.key)
            if name not in COLLECTED:
                assert keys >= self._before[name], f"rows of {name} are gone: {self._before[name] - keys}"
            self._before[name] = keys
        return Counter(rounds=1)


def ask_views(store: Store) -> Done:
    """Ask every view; no row of one that shows a table may be there twice."""
    for view in SEEN_WHOLE:
        once(store, view, TABLES[view].key)
    for view in JOINED:
        store.rows(f"SELECT * FROM {view}")
    return Counter(rounds=1)


def once(store: Store, name: str, key: tuple[str, ...]) -> set[tuple[Any, ...]]:
    """The keys of a table's or view's rows, each there once."""
    rows = store.query(f"SELECT {', '.join(key)} FROM {name}")
    found = Counter(zip(*(rows[column].to_pylist() for column in key), strict=True))
    twice = [keys for keys, times in found.items() if times > 1]
    assert not twice, f"rows of {name} are there twice: {twice}"
    return set(found)


def work(name: str, do: Callable[[Store], Done], path: str, start: Any, ended: Any, said: Any) -> None:
    """Once everybody is there, do a thing: a run once, anything else until the runs have ended and once again."""
    signal.alarm(LONGEST)
    start.wait()
    done, last = Counter[str](), name.startswith("run ")
    while True:
        done += do(Store(path))  # opened anew, as each command does
        if last:
            break
        last = ended.is_set()
    said.put((name, dict(done)))


def main(path: str, specs: list[str]) -> dict[str, dict[str, int]]:
    """What every fork did, by its name, with its exit code."""
    fork = multiprocessing.get_context("fork")
    runs = {f"run {i}": functools.partial(run, spec=spec) for i, spec in enumerate(specs)}
    loops: dict[str, Callable[[Store], Done]] = {"compact": compact, "gc": litter_and_collect}
    loops |= {"tables": Reader(), "views": ask_views}
    things = {**loops, **runs}
    start, ended, said = fork.Barrier(len(things)), fork.Event(), fork.Queue()
    forks = {name: fork.Process(target=work, args=(name, do, path, start, ended, said)) for name, do in things.items()}
    for each in forks.values():
        each.start()
    for name in runs:
        forks[name].join()
    ended.set()
    for each in forks.values():
        each.join()
    did = dict(said.get() for each in forks.values() if each.exitcode == 0)
    return {name: {"exit code": each.exitcode or 0, **did.get(name, {})} for name, each in forks.items()}


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2:]), sys.stdout)
