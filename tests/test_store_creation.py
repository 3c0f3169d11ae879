"""A first creation: cut short by a kill or a full disk, or begun by several at once, it leaves a store or nothing."""

# ruff: noqa: F401, F811  (fixtures of tests/shards.py)

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steering_core.foundation.errors import DiskFull, StoreError
from steering_core.store import Store, wholeness
from steering_core.store.tables import TABLES
from tests.shards import small_disk
from tests.stored import concept_rows

pytestmark = pytest.mark.usefixtures("catalogues")  # they prove stores as they are

Open = Callable[[int, Path], int]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    """Opens a store in a process of its own, to be killed at its n-th request; how that ended."""
    command = [sys.executable, "-m", "tests.opener"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(n: int, path: Path) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{n} {path}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.communicate()


def works(root: Path) -> None:
    """Assert that the store opens, takes a row, gives it back, is whole and has no remains of an attempt."""
    store = Store(root)
    store.append("concepts", concept_rows("a"))
    assert Store(root).rows("SELECT name FROM concepts") == [{"name": "a"}]
    assert wholeness.verify(store.folder) == (len(TABLES) + 1, [])
    assert not [path for path in root.rglob("*") if path.name.startswith((".tmp-", ".catalog"))]


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_it_is_finished_by_the_next_to_open(opened: Open, tmp_path: Path, step: int) -> None:
    killed, n = 0, 1
    while opened(n, root := tmp_path / f"store-{n}") == -9:
        works(root)
        shutil.rmtree(root)
        killed, n = killed + 1, n + (1 if n < 8 else step)
    assert n > 150
    assert killed > 150 / step
    works(root)


def test_a_release_with_other_views_that_is_killed_is_finished_by_the_next(opened: Open, tmp_path: Path) -> None:
    root = tmp_path / "store"
    works(root)
    for n in range(1, 60, 15):
        (root / "store.json").write_text('{"version": 1, "views": "of another release"}')
        assert opened(n, root) == -9
        assert Store(root).rows("SELECT name FROM concepts") == [{"name": "a"}]


def test_processes_that_open_one_new_folder_at_once_all_have_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from steering_core.store import Store; sys.stdin.read(1); "
               "[Store(path) for path in sys.argv[1:]]"]  # fmt: skip
    roots = [tmp_path / f"store-{i}" for i in range(5)]
    opening = [
        subprocess.Popen([*command, *map(str, roots)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "123"
    ]
    for process in opening:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    assert [process.communicate()[1] for process in opening] == [b""] * 3
    for root in roots:
        works(root)


@pytest.mark.parametrize("left", [0, 4096, 20_000, 60_000])
def test_a_disk_that_is_full_at_first_and_then_is_not(small_disk: Path, left: int) -> None:
    root = small_disk / "store"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
    with pytest.raises(DiskFull, match="free some space"):
        Store(root)
    ballast.unlink()
    works(root)


def test_what_an_earlier_version_left_of_a_creation_is_finished(tmp_path: Path) -> None:
    root = tmp_path / "store"
    works(root)
    for path in [root / "store.json", *root.glob("concepts/[!s]*")]:
        path.unlink()
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    (root / f".catalog.duckdb.{died.pid}").write_bytes(b"half")
    (root / "models" / f".tmp-{died.pid}-abcd").write_bytes(b"half")
    works(root)


@pytest.mark.parametrize("name", ["letter.txt", "models/mine.parquet", "locked/x", "staging/x", "models/deep/x.txt"])
def test_a_folder_with_anything_else_is_no_unfinished_creation(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("dear")
    with pytest.raises(StoreError, match=f"not a steerflow store and not empty .*{name}"):
        Store(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
