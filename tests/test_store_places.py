"""Where a store may lie: folders that cannot be written are read, and what is no store is named."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pytest

from steering_core.cli.main import main
from steering_core.foundation.errors import StoreDamaged, StoreError
from steering_core.store import TABLES, Store, connect, upkeep, wholeness
from steering_core.store.export import export_query
from steering_core.store.listing import _failure
from steering_core.store.names import escaped, quoted
from steering_core.store.objects import ObjectFolder
from steering_core.vectors.derive import derive
from steering_core.vectors.library import find
from tests.stored import concept_rows, fill, identity, made_up_concept, planted_directions

pytestmark = pytest.mark.usefixtures("catalogues")  # they prove stores as they are


def refused(*arguments: object, **named: object) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the file system refuse to write, as one that is mounted read-only."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and Path(path).exists())
    for change in ("mkdir", "touch", "write_bytes", "replace"):
        monkeypatch.setattr(Path, change, refused)
    monkeypatch.setattr("steering_core.store.files.write_parquet", refused)


@pytest.mark.parametrize("locks", [True, False])
def test_a_read_only_store_is_read_and_says_what_it_is_when_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    store.append("concepts", concept_rows("a"))
    root = tmp_path / "elsewhere"  # so the catalog would be written again, could it be
    shutil.copytree(store.root, root)
    shutil.rmtree(root / "outcomes")  # as in a store of an earlier version
    if not locks:
        shutil.rmtree(root / "locks")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    read_only(monkeypatch)
    opened = Store.existing(root)
    found = opened.rows("SELECT name, (SELECT count(*) FROM raw.outcomes) AS outcomes FROM concepts")
    assert found == [{"name": "a", "outcomes": 0}]
    with pytest.raises(StoreError, match=r"can be read, not written .*Read-only file system"):
        opened.append("concepts", concept_rows("b"))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_store_at_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"no store can be made at .*Not a directory"):
        Store(tmp_path / "file" / "store")


@pytest.mark.parametrize("marker", [b"{bad", b"[]", b"{}", b'{"version": "1"}', b"\xff"])
def test_a_damaged_marker_is_named_and_its_remedy_helps(store: Store, marker: bytes) -> None:
    store.append("concepts", concept_rows("a"))
    path = Path(store.root) / "store.json"
    path.write_bytes(marker)
    with pytest.raises(StoreDamaged, match=r'write \{"version": 1\} into it'):
        Store.existing(store.root)
    path.write_text('{"version": 1}')
    assert Store.existing(store.root).rows("SELECT name FROM concepts") == [{"name": "a"}]


# -- paths whose letters mean something elsewhere --------------------------------------------------------------------


def deep(tmp_path: Path) -> Path:
    """Folders named after every column of every table, as a sweep names its folders."""
    columns = sorted({name for table in TABLES.values() for name in table.schema.names})
    path = tmp_path
    for name in ["key", "value", "row", *columns]:
        path = path / f"{name}={'3' if name in ('layer', 'alpha') else 'validation' if name == 'split' else 'zzz'}"
    return path / "store"


def test_the_folders_above_a_store_are_no_columns(tmp_path: Path) -> None:
    plain, sweep = Store(tmp_path / "plain"), Store(deep(tmp_path))
    for store in (plain, sweep):
        fill(store, identity(), made_up_concept("calm"), planted_directions())
        derive(store, identity(), made_up_concept("calm"), ["mean_difference"], (0, 1), "last", 0)
    for table in TABLES:
        here, there = (store.query(f'SELECT * FROM raw."{table}" ORDER BY ALL') for store in (plain, sweep))
        assert here == there, table
        assert here.column_names == TABLES[table].schema.names
    assert find(sweep, "calm/mean_difference/1").layer == 1
    assert wholeness.verify(sweep.folder)[1] == []
    for opened in (connect(sweep.root), duckdb.connect(Path(sweep.root, "catalog.duckdb"), read_only=True)):
        with opened as connection:
            found = connection.sql("SELECT DISTINCT layer FROM vectors ORDER BY layer").fetchall()
            assert found == [(0,), (1,)]


@pytest.mark.parametrize(
    "name", ["a[b]c", "[", "]", "[!a]", "wh?t", "st*r", "**", "it's", "two words", "übergröße", "{a,b}", "$H", '"']
)  # fmt: skip
def test_any_letter_may_be_in_a_stores_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "acb").mkdir()  # what a pattern `a[cb]b` would find
    store = Store(tmp_path / name / f"{name} store")
    store.append("concepts", concept_rows("a", name))
    assert sorted(row["name"] for row in Store.existing(store.root).rows("SELECT name FROM concepts")) == sorted(
        ["a", name]
    )
    with duckdb.connect(Path(store.root, "catalog.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM concepts").fetchall() == [(2,)]
    assert export_query(store, "SELECT name FROM concepts", tmp_path / f"{name}.csv") == 2
    assert upkeep.compact(store) == []
    assert wholeness.verify(store.folder)[1] == []


# -- a catalogue that was copied or moved ----------------------------------------------------------------------------


def test_a_copied_catalogue_never_answers_with_the_originals_rows(store: Store, tmp_path: Path) -> None:
    """Before the copy is opened as a store it names itself, the way out works, and a store that opens it mends it."""
    store.append("concepts", concept_rows("a"))
    copy = shutil.copytree(store.root, tmp_path / "it's [a] copy")
    store.append("concepts", concept_rows("only in the original"))
    names = "SELECT name FROM {}concepts ORDER BY name"
    with duckdb.connect(copy / "catalog.duckdb", read_only=True) as moved:
        for view in ("", "raw."):
            with pytest.raises(duckdb.Error, match=rf"copied or moved.*{store.root}.*steer store info --store"):
                moved.sql(names.format(view)).fetchall()
    with duckdb.connect() as another:
        another.execute(f"ATTACH {quoted(str(copy / 'catalog.duckdb'))} AS copied (READ_ONLY)")
        with pytest.raises(duckdb.Error, match="copied or moved"):
            another.sql(names.format("copied.")).fetchall()
        another.execute(f"SET VARIABLE steerflow_store = {quoted(escaped(str(copy)))}")
        assert another.sql(names.format("copied.")).fetchall() == [("a",)]
    Store.existing(copy)
    with duckdb.connect(copy / "catalog.duckdb", read_only=True) as mended:
        assert mended.sql(names.format("")).fetchall() == [("a",)]


def test_a_catalogue_is_known_by_its_true_place_whatever_leads_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append("concepts", concept_rows("a"))
    (tmp_path / "link").symlink_to(store.root)
    monkeypatch.chdir(store.root)
    for path in (tmp_path / "link" / "catalog.duckdb", "catalog.duckdb", "../store/catalog.duckdb"):
        with duckdb.connect(path, read_only=True) as opened:
            assert opened.sql("SELECT name FROM concepts").fetchall() == [("a",)]


# -- addresses of no store -------------------------------------------------------------------------------------------


def a_loop(tmp_path: Path) -> str:
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    return str(tmp_path / "one" / "store")


def a_pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def a_marker_that_is_a_pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "store.json")
    return str(tmp_path)


def a_marker_that_is_a_folder(tmp_path: Path) -> str:
    (tmp_path / "store.json").mkdir()
    return str(tmp_path)


def a_file_in_place_of_a_table(tmp_path: Path) -> str:
    Store(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "concepts")
    (tmp_path / "store" / "concepts").write_text("")
    return str(tmp_path / "store")


ADDRESSES: list[Any] = ["foo://x/y", "://", "s3://", "s3:///", "file:///tmp/x", "/proc/x", "/proc/self", "/dev/null"]
ADDRESSES += ["/dev/null/x", "a\\b", "a\0b", "x" * 300, "/tmp/" + "y/" * 3000]
ADDRESSES += [a_loop, a_pipe, a_marker_that_is_a_pipe, a_marker_that_is_a_folder, a_file_in_place_of_a_table]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_no_store_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Any) -> None:
    monkeypatch.chdir(tmp_path)
    where = address(tmp_path) if callable(address) else str(address)
    for opened in (Store, Store.existing):
        with pytest.raises(StoreError) as caught:
            opened(where).append("concepts", concept_rows("a"))
        assert len(str(caught.value)) < 1000
        assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("gs://bucket/x", "name a folder or s3://bucket/prefix"),
        ("http://example.invalid/x", "name a folder or s3://bucket/prefix"),
        ("memory://x", "name a folder or s3://bucket/prefix"),
        ("s3://", "s3:// names no bucket"),
        ("s3:///", "s3:// names no bucket"),
        ("s3:/bucket/x", "did you mean 's3://bucket/x'"),
        ("s3:bucket/x", "did you mean 's3://bucket/x'"),
        ("file:///tmp/x", "is a local folder: name it without file://"),
    ],
)
def test_an_address_that_was_meant_otherwise_is_told_what_to_type(address: str, says: str) -> None:
    with pytest.raises(StoreError, match=re.escape(says)) as caught:
        Store(address)
    assert "install" not in str(caught.value)


def test_what_is_forbidden_is_told_from_wrong_credentials() -> None:
    """s3fs raises PermissionError for both."""
    denied = _failure("s3://b/x", PermissionError("Access Denied"))
    assert "may not do that at s3://b/x (Access Denied)" in denied
    assert "s3:PutObject" in denied
    assert "AWS_ACCESS_KEY_ID" not in denied
    unknown = _failure("s3://b/x", PermissionError("The AWS Access Key Id you provided does not exist in our records"))
    assert "refuses these credentials" in unknown


@pytest.fixture
def entered() -> Iterator[Path]:
    """A folder that every user may enter: pytest closes its own to others, again whenever another pytest begins."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(
    ("mode", "said"), [(0o000, "cannot be"), (0o311, "can be read, not written"), (0o555, "can be read, not written")]
)
def test_a_folder_that_may_not_be_read_or_written_is_one_error(entered: Path, mode: int, said: str) -> None:
    root = Path(Store(entered / "store").root)
    shutil.rmtree(root / "locks")
    program = (
        "import os, sys; from steering_core.store import TABLES, Store\n"
        "from steering_core.foundation.errors import StoreError\n"
        "os.chdir(sys.argv[1]); rows = [dict.fromkeys(TABLES['scorers'].schema.names, 'x')]\n"
        "Store('imports').append('scorers', rows)\n"  # all that is read lazily, where another user may not
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n    Store('store').append('scorers', rows)\n"
        "except StoreError as error: print(error)\n"
    )
    root.chmod(mode)
    done = subprocess.run([sys.executable, "-c", program, str(entered)], capture_output=True, text=True)
    root.chmod(0o755)
    assert done.stderr == ""
    assert said in done.stdout


WRITES = {
    "append": "opened.append('scorers', rows)",
    "in_use": "opened.in_use().__enter__()",
    "lock": "opened.lock('scorers').__enter__()",
    "exchange": "opened.folder.exchanging().__enter__()",
    "try": "opened.folder.try_exchanging().__enter__()",
}


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("write", WRITES)
def test_a_store_of_ones_own_that_was_made_read_only_is_one_error(entered: Path, write: str) -> None:
    """Its owner may set the times of its lock files, and may not open them."""
    own_read_only(Path(Store(entered / "store").root))
    program = (
        "import os, sys; from steering_core.store import TABLES, Store\n"
        "from steering_core.foundation.errors import StoreError\n"
        "os.chdir(sys.argv[1]); rows = [dict.fromkeys(TABLES['scorers'].schema.names, 'x')]\n"
        "Store('imports').append('scorers', rows)\n"
        "os.setgid(65534); os.setuid(65534); opened = Store.existing('store')\n"
        f"try:\n    {WRITES[write]}\n"
        "except StoreError as error: print(error, opened.query('SELECT 1 AS one').to_pylist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(entered)], capture_output=True, text=True)
    assert done.stderr == ""
    assert re.search(r"store can be read, not written \(locks/\S+: Permission denied\): have it made", done.stdout)
    assert done.stdout.endswith("[{'one': 1}]\n")


def own_read_only(root: Path) -> None:
    """Give a store with all its lock files to another user, who may not write any of it."""
    for name in ("scorers", "in-use", "layout", "layout-turn"):
        (root / "locks" / name).touch()
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOLCK])
def test_a_lock_file_that_is_there_and_cannot_be_opened_is_one_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    (Path(store.root) / "locks/in-use").touch()

    def fails(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("steering_core.foundation.locks._opened", fails)
    with pytest.raises(StoreError, match=rf"not written \(locks/in-use: {os.strerror(number)}\)"), store.in_use():
        pass
    monkeypatch.setattr(sys, "argv", ["steer", "store", "gc", "--store", str(store.root)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"not written (locks/in-use: {os.strerror(number)})" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("take", ["lock", "try_lock", "reading", "exchanging", "try_exchanging"])
def test_locks_of_an_object_store_that_cannot_be_written_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    folder = ObjectFolder("s3://bucket/x")
    with pytest.raises(
        StoreError, match=r"take turns at s3://bucket/x, cannot be written \(Not a directory\): have it"
    ):
        getattr(folder, take)(*["scorers"] * take.endswith("lock")).__enter__()
