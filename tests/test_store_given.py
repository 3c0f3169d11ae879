"""A store that somebody gave you: nothing in it names a file outside, and a torn file in it hides no other."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steering_core.cli.store import app
from steering_core.foundation.errors import StoreDamaged, StoreError
from steering_core.store import Store, garbage, upkeep, wholeness
from steering_core.store.names import checked, checked_table_file
from tests.stored import concept_rows
from tests.verbs import typed


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Path:
    """A store with a concept, beside a folder `outside` with a file of somebody else's."""
    store.append("concepts", concept_rows("a"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious.parquet").write_bytes(b"precious")
    return Path(store.root)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names_that_lead_out(outside: Path) -> list[str]:
    victim = str(outside / "precious.parquet")
    up = "../outside/precious.parquet"
    return [victim, up, f"concepts/../{up}", f"concepts/{victim}", "concepts/./x.parquet", f"../{up}", "store.json", ""]


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("role", ["new", "old"])
def test_a_plan_with_names_that_lead_out_touches_nothing(
    given: Path, tmp_path: Path, role: str, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    name = names_that_lead_out(tmp_path / "outside")[which]
    (given / "staging").mkdir()
    if name:
        planted = Path(f"{given}/staging/{name}")
        planted.parent.mkdir(parents=True, exist_ok=True)
        if not planted.exists():
            planted.write_bytes(b"payload")
    (given / "staging" / "exchange.json").write_text(json.dumps({"new": [], "old": []} | {role: [name]}))
    before = contents(tmp_path / "outside"), (given / "store.json").read_bytes()
    with caplog.at_level(logging.WARNING):
        assert Store.existing(given).rows("SELECT name FROM concepts") == [{"name": "a"}]
    assert (contents(tmp_path / "outside"), (given / "store.json").read_bytes()) == before
    assert "staging/exchange.json is damaged" in caplog.text
    assert (given / "damaged" / "staging-exchange.json").exists()
    assert not (given / "staging" / "exchange.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"{}", b'{"new": 1, "old": []}', b'{"new": [1], "old": [null]}', b"\xff", b"[" * 99_999],
)  # fmt: skip
def test_a_malformed_plan_is_set_aside(given: Path, content: bytes) -> None:
    (given / "staging").mkdir()
    (given / "staging" / "exchange.json").write_bytes(content)
    assert Store.existing(given).rows("SELECT name FROM concepts") == [{"name": "a"}]
    assert (given / "damaged" / "staging-exchange.json").read_bytes() == content


def test_a_plan_whose_new_file_is_not_there_deletes_nothing(given: Path) -> None:
    (old,) = [f"concepts/{path.name}" for path in (given / "concepts").glob("*") if path.stem != "schema"]
    (given / "staging").mkdir()
    (given / "staging" / "exchange.json").write_text(json.dumps({"new": ["concepts/x.parquet"], "old": [old]}))
    assert Store.existing(given).rows("SELECT name FROM concepts") == [{"name": "a"}]


@pytest.mark.parametrize("link", ["concepts", "concepts/deep", "concepts/x.parquet", "staging", "damaged", "locks"])
def test_a_link_that_leads_out_is_refused_by_every_verb_and_followed_by_none(
    given: Path, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    opened, path = Store(given), given / link
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(outside / "precious.parquet" if link.endswith(".parquet") else outside)
    (outside / "exchange.json").write_text(json.dumps({"new": [], "old": ["concepts/x.parquet"]}))
    before = contents(outside)
    verbs: list[Callable[[], Any]] = [
        lambda: Store.existing(given).rows("SELECT * FROM concepts"),
        lambda: typed(app, "verify", "--store", str(given), "--format", "json"),
        lambda: wholeness.verify(opened.folder),
        lambda: upkeep.compact(opened),
        lambda: garbage.collect(opened),
        lambda: opened.append("concepts", concept_rows("b")),
    ]
    said: list[str] = []
    for verb in verbs:
        try:
            verb()
        except StoreError as error:
            said.append(str(error))
    assert all("a link that leads out of it" in message for message in said)
    assert said or link == "damaged"
    assert contents(outside) == before
    with pytest.raises(StoreError, match="a link that leads out of it"):
        opened.folder.write(link if link.endswith(".parquet") else f"{link}/y.parquet", b"x")


def test_a_pipe_in_a_table_is_refused_and_waited_for_by_none(given: Path) -> None:
    os.mkfifo(given / "concepts" / "x.parquet")
    with pytest.raises(StoreError, match="no file that can be read"):
        Store.existing(given)


@pytest.mark.parametrize("to", ["x.parquet", "nothing.parquet"])
def test_a_link_that_leads_nowhere_is_refused(given: Path, to: str) -> None:
    (given / "concepts" / "x.parquet").symlink_to(to)
    with pytest.raises(StoreError, match="no file that can be read"):
        Store.existing(given)


@pytest.mark.parametrize("name", ["", "/x", "a//b", "..", "a/../b", "./a", "a/", "a\0b", None, 3, ["a"]])
def test_only_names_that_go_down_are_names(name: object) -> None:
    with pytest.raises(StoreDamaged, match="is no name of a file"):
        checked(name)


@pytest.mark.parametrize(
    "name", ["store.json", "other/x.parquet", "concepts", "concepts/x.txt", "concepts/schema.parquet"]
)
def test_only_files_of_rows_are_exchanged(name: str) -> None:
    with pytest.raises(StoreDamaged, match="no file of rows"):
        checked_table_file(name)


# -- a torn file in a store that was copied, moved, or is read by another release ------------------------------------


def moved(root: Path) -> Path:
    return Path(shutil.move(root, root.with_name("moved")))


def copied(root: Path) -> Path:
    return Path(shutil.copytree(root, root.with_name("copied")))


def of_another_release(root: Path) -> Path:
    (root / "store.json").write_text('{"version": 1, "views": "others"}')
    return root


@pytest.mark.parametrize("how", [moved, copied, of_another_release])
@pytest.mark.parametrize("torn", ["first", "last", "schema"])
def test_a_torn_file_is_set_aside_as_in_place(store: Store, how: Callable[[Path], Path], torn: str) -> None:
    for name in "abc":
        store.append("concepts", concept_rows(name))
    root = how(Path(store.root))
    files = sorted(path for path in (root / "concepts").glob("*.parquet") if path.stem != "schema")
    victim = {"first": files[0], "last": files[-1], "schema": root / "concepts" / "schema.parquet"}[torn]
    victim.write_bytes(victim.read_bytes()[:30])
    left = 3 if torn == "schema" else 2
    assert len(Store.existing(root).rows("SELECT name FROM concepts")) == left
    assert (root / "damaged" / f"concepts-{victim.name}").exists() or torn == "schema"
    whole, faults = wholeness.verify(Store.existing(root).folder)
    assert faults == []
    assert whole == len(list(root.glob("*/*.parquet"))) - len(list(root.glob("damaged/*")))
    assert not list(root.glob(".*"))


@pytest.mark.parametrize("how", [moved, copied, of_another_release])
def test_verify_opens_what_has_a_torn_file(store: Store, how: Callable[[Path], Path]) -> None:
    store.append("concepts", concept_rows("a"))
    root = how(Path(store.root))
    (victim,) = [path for path in (root / "concepts").glob("*.parquet") if path.stem != "schema"]
    victim.write_bytes(b"PAR1")
    with pytest.raises(StoreDamaged, match="1 files were damaged"):
        typed(app, "verify", "--store", str(root))
    assert (root / "damaged" / f"concepts-{victim.name}").read_bytes() == b"PAR1"
