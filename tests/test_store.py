"""The store: whole or not there at all, whatever happens to it."""

# ruff: noqa: F401, F811  (fixtures of tests/shards.py)

import contextlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steering_core.foundation.errors import DiskFull, QueryError, StoreError, StoreTooNew
from steering_core.models import Model
from steering_core.store import Store, connect, wholeness
from steering_core.store.tables import TABLES
from tests.shards import count, extracted, prompts_that_share, shard_paths, small_disk
from tests.stored import concept_rows

pytestmark = pytest.mark.usefixtures("catalogues")  # they prove stores as they are

# -- opening and appending -------------------------------------------------------------------------------------------


def test_rows_are_appended_once(store: Store) -> None:
    assert store.append("concepts", concept_rows("a", "b")) == 2
    assert store.append("concepts", concept_rows("b", "c", "c")) == 1
    assert [row["name"] for row in store.rows("SELECT name FROM concepts ORDER BY name")] == ["a", "b", "c"]
    assert store.absent("concepts", ["a", "d"]) == {"d"}


def test_what_a_table_has_is_not_asked_again_unless_files_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    query = Store.query
    monkeypatch.setattr(Store, "query", lambda self, sql, *a, **kw: asked.append(sql) or query(self, sql, *a, **kw))
    store.append("concepts", concept_rows("a"))
    assert store.absent("models", ["m"]) == {"m"}
    assert asked == []  # neither table had a file
    assert store.absent("concepts", ["a", "b", "c"]) == {"b", "c"}
    store.append("concepts", concept_rows("b"))
    assert store.absent("concepts", ["b", "c"]) == {"c"}
    assert asked == []  # both files are its own
    Store(store.root).append("concepts", concept_rows("c"))  # another process, in between
    before = len(asked)
    assert store.append("concepts", concept_rows("c", "d")) == 1
    assert store.append("concepts", concept_rows("e")) == 1  # nobody asked whether it is absent
    assert store.append("concepts", concept_rows("d", "e")) == 0
    assert len(asked) == before + 1  # the other's file was read
    names = store.rows("SELECT name FROM concepts ORDER BY name")
    assert [row["name"] for row in names] == ["a", "b", "c", "d", "e"]


def test_a_row_without_a_column_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="columns: chat, colour"):
        store.append("concepts", [{k: v for k, v in concept_rows("a")[0].items() if k != "chat"} | {"colour": 1}])


def test_a_store_of_a_later_version_is_refused(store: Store) -> None:
    Path(store.root, "store.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(StoreTooNew, match="version 99"):
        Store(store.root)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="not a steerflow store"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="there is no store"):
        connect(tmp_path / "nowhere")


def test_a_table_that_gained_a_column_is_read_with_nulls(store: Store) -> None:
    old = TABLES["concepts"].schema.empty_table().drop_columns(["description"])
    rows = pa.Table.from_pylist(concept_rows("old"), schema=TABLES["concepts"].schema).drop_columns(["description"])
    pq.write_table(old, Path(store.root, "concepts", "schema.parquet"))
    pq.write_table(rows, Path(store.root, "concepts", f"{wholeness.file_key('concepts', rows)}.parquet"))
    Path(store.root, "store.json").write_text(json.dumps({"version": 1}))
    reopened = Store(store.root)
    assert reopened.append("concepts", concept_rows("new")) == 1
    assert reopened.rows("SELECT name, description FROM concepts ORDER BY name") == [
        {"name": "new", "description": None},
        {"name": "old", "description": None},
    ]
    assert wholeness.verify(reopened.folder)[1] == []


def test_the_catalog_opens_in_a_plain_duckdb_and_follows_a_moved_store(store: Store, tmp_path: Path) -> None:
    store.append("concepts", concept_rows("a"))
    moved = shutil.move(store.root, tmp_path / "moved")
    Store(moved)
    with duckdb.connect(Path(moved, "catalog.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT name FROM concepts").fetchall() == [("a",)]


def test_wrong_sql_is_a_named_error_and_touches_no_file(store: Store) -> None:
    store.append("concepts", concept_rows("a"))
    for sql in ("SELEC 1", "SELECT nothing FROM concepts", "SELECT 'x'::INT"):
        with pytest.raises(QueryError):
            store.query(sql)
    assert not Path(store.root, "damaged").exists()


def test_small_queries_are_cheap_and_threads_have_their_own_connection(store: Store) -> None:
    store.append("concepts", concept_rows("a", "b"))
    found: list[int] = []

    def ask() -> None:
        wanted = pa.table({"concept_id": ["a"]})
        for _ in range(20):
            found.append(store.query("SELECT * FROM wanted JOIN concepts USING (concept_id)", wanted=wanted).num_rows)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 80
    defining = _seconds(lambda: store.connect().close())
    assert _seconds(lambda: store.query("SELECT name FROM concepts")) < defining


def _seconds(function: Any) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


# -- damage ----------------------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(8)
    assert column.path_in_schema.startswith("activation")
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0x10
    path.write_bytes(content)


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


def renamed(path: Path) -> None:
    """Another shard's rows under this one's name."""
    other = next(p for p in path.parent.iterdir() if p != path)
    shutil.copy(other, path)


@pytest.mark.parametrize("damage", [truncated, flipped, foreign, renamed])
def test_a_damaged_file_is_named_set_aside_and_made_again(
    tiny: Model, store: Store, damage: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("steering_core.activations.shards.SHARD_PROMPTS", 10)
    n = extracted(tiny, store)
    victim = shard_paths(store)[0]
    lost = pq.read_metadata(victim).num_rows // 4
    damage(victim)
    with caplog.at_level(logging.WARNING):
        whole, faults = wholeness.verify(store.folder)
    assert [fault.name for fault in faults] == [victim.relative_to(store.root).as_posix()]
    assert faults[0].reason
    assert whole == len(TABLES) + len(shard_paths(store))
    assert victim.name in caplog.text
    assert Path(store.root, faults[0].set_aside).exists()
    assert extracted(tiny, store) == lost
    assert count(store) == (4 * n, 4 * n)
    assert wholeness.verify(store.folder)[1] == []


def test_a_torn_file_met_by_a_run_is_made_again_with_a_warning(
    tiny: Model, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    n = extracted(tiny, store)
    truncated(shard_paths(store)[0])
    with caplog.at_level(logging.WARNING):
        assert extracted(tiny, store) == n
    assert "set aside as damaged/" in caplog.text
    assert count(store) == (4 * n, 4 * n)


def test_verify_sweeps_what_dead_processes_left(store: Store) -> None:
    left = Path(store.root, "activations", ".tmp-999999999-abcd")
    left.write_bytes(b"half")
    mine = left.with_name(f".tmp-{os.getpid()}-abcd")
    mine.write_bytes(b"still writing")
    assert wholeness.verify(store.folder)[1] == []
    assert not left.exists()
    assert mine.exists()


# -- processes -------------------------------------------------------------------------------------------------------


class Child:
    """A process that extracts into stores, one fork of it after the other (tests/killable.py)."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.killable", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, root: Path, n: int) -> int:
        """Begin to extract; the pid of who does."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{root} {n}\n")
        self.process.stdin.flush()
        said = self.hear().split()
        return int(said[0] if len(said) == 1 else self.hear())  # the one before may have ended before it was killed

    def hear(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def counts(self) -> tuple[int, int]:
        """Computed and reused, at the end."""
        computed, reused = self.hear().split()
        return int(computed), int(reused)


@pytest.fixture
def children(tiny_folder: Path) -> Iterator[list[Child]]:
    both = [Child(tiny_folder) for _ in range(2)]
    yield both
    for child in both:
        child.process.communicate()


def test_killed_twenty_times_nothing_is_torn_lost_or_doubled(
    tiny: Model, children: list[Child], store: Store, tmp_path: Path
) -> None:
    n, when, child = 240, random.Random(0), children[0]
    expected = len(prompts_that_share(tiny.identity.tokenizer_id, n))
    child.start(tmp_path / "whole", n)
    began = time.perf_counter()
    assert child.counts() == (expected, 0)
    length, held, unfinished = time.perf_counter() - began, 0, 0
    for _ in range(20):
        pid = child.start(Path(store.root), n)
        time.sleep(when.uniform(0, length / 8))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        rows, different = count(store)
        assert rows == different >= held
        held, unfinished = rows, unfinished + (rows < 4 * expected)
    assert unfinished >= 10
    assert wholeness.verify(store.folder)[1] == []
    assert not list(Path(store.root).rglob(".tmp-*"))
    extracted(tiny, store, n)
    assert count(store) == (4 * expected, 4 * expected)


def test_two_processes_do_the_work_once(tiny: Model, children: list[Child], store: Store) -> None:
    expected = len(prompts_that_share(tiny.identity.tokenizer_id, 60))
    for child in children:
        child.start(Path(store.root), 60)
    computed, reused = zip(*(child.counts() for child in children), strict=True)
    assert sum(computed) == sum(reused) == expected
    assert count(store) == (4 * expected, 4 * expected)


def leave(disk: Path, store: Store, size: int) -> None:
    """Fill a disk until `size` bytes are left."""
    room = store.folder.room()
    assert room is not None
    (disk / f"ballast-{size}").write_bytes(bytes(room - size))


def test_a_full_disk_is_a_clear_error_and_tears_nothing(tiny: Model, small_disk: Path) -> None:
    store = Store(small_disk / "store")
    n = extracted(tiny, store, 9)
    leave(small_disk, store, 200_000)
    with pytest.raises(DiskFull, match="are to be written and the disk of"):
        extracted(tiny, store, 900)
    leave(small_disk, store, 8192)
    with pytest.raises(DiskFull, match="no room for"):
        store.append("concepts", [{**concept_rows("a")[0], "definition": random.Random(0).randbytes(20_000).hex()}])
    assert count(store) == (4 * n, 4 * n)
    assert wholeness.verify(store.folder)[1] == []
    assert not list(Path(store.root).rglob(".tmp-*"))
