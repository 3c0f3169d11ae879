"""Where a store may lie: folders that cannot be written are read, and what is no store is named."""

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from steering_core.errors import StoreDamaged, StoreError
from steering_core.store import Store
from tests.test_store import concept_rows


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
