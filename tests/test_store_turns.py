"""Whose turn it is: files are exchanged between slow questions that never leave a gap, and every append is alone."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from steering_core.foundation.errors import StoreBusy
from steering_core.store import Store, upkeep
from tests.stored import concept_rows


@contextmanager
def overlapping_readers(store: Store) -> Iterator[Callable[[], int]]:
    """Two readers, of whom each leaves once the other has come, or after a second; how often they have come so far."""
    come, times, stop = [threading.Event(), threading.Event()], [0, 0], threading.Event()

    def read(own: int) -> None:
        while not stop.is_set():
            with store.folder.reading():
                times[own] += 1
                come[own].set()
                come[1 - own].wait(1.0)
                come[1 - own].clear()

    readers = [threading.Thread(target=read, args=[own]) for own in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield lambda: sum(times)
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def scattered(store: Store) -> None:
    for name in "abc":
        store.append("concepts", concept_rows(name))


@pytest.mark.parametrize("change", [upkeep.compact, lambda store: Store(store.root)], ids=["compaction", "recovery"])
def test_files_are_exchanged_while_questions_overlap_without_a_gap(
    store: Store, change: Callable[[Store], object]
) -> None:
    scattered(store)
    Path(store.root, "staging").mkdir(exist_ok=True)
    if change is not upkeep.compact:  # as a compaction that was killed leaves it
        (name, *_) = upkeep.file_names(store, "concepts")
        store.folder.write("staging/exchange.json", f'{{"new": [], "old": ["{name}"]}}'.encode())
    with overlapping_readers(store) as times:
        changing = threading.Thread(target=change, args=[store], daemon=True)
        changing.start()
        changing.join(20)
        assert not changing.is_alive(), f"waited while {times()} questions came and went"
        before = times()
        while times() < before + 10:  # and the readers are let in again
            pass
    assert len(upkeep.file_names(store, "concepts")) == (1 if change is upkeep.compact else 2)


def test_a_question_that_takes_very_long_ends_a_compaction_with_one_error_and_nothing_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering_core.store.files.EXCHANGE_WAITS", 0.3)
    scattered(store)
    before = upkeep.file_names(store, "concepts")
    with store.folder.reading(), pytest.raises(StoreBusy, match=r"a query has been reading .* run again when it has"):
        upkeep.compact(store)
    assert upkeep.file_names(store, "concepts") == before
    assert not [path for path in Path(store.root, "staging").rglob("*") if path.is_file()]
    assert len(store.rows("FROM concepts")) == 3
    assert upkeep.compact(store)[0].files_after == 1


def test_two_appends_at_once_are_one_after_the_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits before it publishes for the other to have asked as well what is missing, which a lock prevents."""
    both_asked = threading.Barrier(2)
    publish = Store.publish

    def published(self: Store, table: str, rows: pa.Table) -> str:
        try:
            both_asked.wait(1.0)
        except threading.BrokenBarrierError:
            return publish(self, table, rows)
        raise AssertionError("both asked what is missing before either had published it")

    monkeypatch.setattr(Store, "publish", published)
    done: list[int] = []
    appends = [
        threading.Thread(
            target=lambda names=names: done.append(Store(store.root).append("concepts", concept_rows(*names)))
        )
        for names in ("ab", "bc")
    ]
    for append in appends:
        append.start()
    for append in appends:
        append.join()
    assert sorted(done) == [1, 2]
    assert [row["name"] for row in store.rows("SELECT name FROM raw.concepts ORDER BY name")] == ["a", "b", "c"]


APPENDER = """
import sys
from steering_core.store import Store
from tests.stored import concept_rows

store = Store(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:  # each round begins for all of them together
    print(store.append("concepts", concept_rows(*line.split())), flush=True)
"""


def test_processes_that_append_overlapping_rows_at_once_store_each_once(store: Store) -> None:
    """Twenty rounds of four processes: each brings a row of its own, and one that all bring."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    appenders = [(process, process.stdin, process.stdout) for process in started]
    assert [out.readline() for _, _, out in appenders if out] == ["ready\n"] * 4
    new = []
    for turn in range(20):
        for own, (_, stdin, _) in enumerate(appenders):
            assert stdin
            stdin.write(f"r{turn}own{own} r{turn}\n")
            stdin.flush()
        new.append(sum(int(out.readline()) for _, _, out in appenders if out))
    for process in started:
        process.communicate(timeout=60)
    assert new == [5] * 20
    (found,) = store.rows("SELECT count(*) AS n, count(DISTINCT name) AS names FROM raw.concepts")
    assert found == {"n": 100, "names": 100}
