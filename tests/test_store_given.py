"""A store that somebody gave you: nothing in it names a file outside, and a torn file in it hides no other."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from steering_core.cli.sql import app as sql
from steering_core.cli.store import app
from steering_core.foundation.errors import StoreDamaged, StoreError
from steering_core.store import Store, garbage, upkeep, wholeness
from steering_core.store.names import checked, checked_table_file
from steering_core.store.tables import TABLES
from steering_core.store.values import stored_object
from tests.stored import concept_rows
from tests.verbs import typed

STEER = Path(sys.executable).with_name("steer")


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


@pytest.mark.parametrize("lock", ["layout", "layout-turn", "concepts"])
def test_a_pipe_in_place_of_a_lock_is_waited_for_by_none(given: Path, lock: str) -> None:
    Store.existing(given).rows("SELECT name FROM concepts")
    (given / "locks" / lock).unlink(missing_ok=True)
    os.mkfifo(given / "locks" / lock)
    words = ["store", "compact", "--store", str(given)], ["sql", "SELECT name FROM concepts", "--store", str(given)]
    for verb in words:
        done = subprocess.run([STEER, *verb], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_whose_name_is_no_text_is_set_aside_and_shown(given: Path) -> None:
    for form in ("table", "json", "csv"):
        Path(os.fsdecode(os.fsencode(given) + b"/concepts/\xff.parquet")).write_bytes(b"x")
        words = [str(STEER), "store", "verify", "--store", str(given), "--format", form]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        assert b"\\udcff" in done.stdout
    assert list((given / "damaged").iterdir())


@pytest.mark.parametrize("name", ["vectors", "concepts", "locks"])
@pytest.mark.parametrize("how", ["file", "pipe", "broken link"])
def test_what_lies_in_place_of_a_folder_is_named_and_kept(given: Path, name: str, how: str) -> None:
    shutil.rmtree(given / name)
    made: dict[str, Callable[[Path], object]] = {"file": Path.touch, "pipe": os.mkfifo}
    made.get(how, lambda path: path.symlink_to("nowhere"))(given / name)
    before = sorted(given.iterdir())
    with pytest.raises(StoreError, match=f"{given}/{name} is no folder, where a store has one: move it elsewhere"):
        Store.existing(given).append("concepts", concept_rows("b"))
    assert sorted(given.iterdir()) == before
    (given / name).unlink()
    assert Store.existing(given).append("concepts", concept_rows("b"))


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


# -- a store that another program wrote: columns of other types, and values that Python does not have -----------------


def rewritten(store: Store, table: str, column: str, values: pa.Array) -> Path:
    """A table's only file, with other values in one column and the name that they ask for."""
    (path,) = [path for path in (Path(store.root) / table).glob("*.parquet") if path.stem != "schema"]
    rows = pq.read_table(path)
    rows = rows.set_column(rows.column_names.index(column), column, values)
    path.unlink()
    path = path.with_stem(wholeness.file_key(table, rows))
    pq.write_table(rows, path)
    return path


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("n_pairs", pa.array(["many"]), "the column n_pairs holds string, not int32"),
        ("n_pairs", pa.array([1.5]), "the column n_pairs holds double, not int32"),
        ("n_pairs", pa.array([2**40]), "not in range"),
        ("name", pa.array([3]), "the column name holds int64, not string"),
        ("name", pa.array([["a"]]), "the column name holds list"),
        ("name", pa.array([b"\xff"]), "the column name holds binary, not string"),
        ("chat", pa.array(["yes"]), "the column chat holds string, not bool"),
    ],
)
def test_a_column_of_another_type_is_set_aside_by_verify_and_by_compaction(
    store: Store, column: str, values: pa.Array, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.append("concepts", concept_rows("a"))
    path = rewritten(store, "concepts", column, values)
    store.append("concepts", concept_rows("b"))
    assert said in str(wholeness.fault_in(store.folder, "concepts", f"concepts/{path.name}"))
    upkeep.compact(store)
    assert said in caplog.text
    assert store.rows("SELECT name FROM concepts") == [{"name": "b"}]
    assert wholeness.verify(store.folder)[1] == []


def test_a_key_that_is_no_text_is_set_aside(store: Store) -> None:
    store.append("concepts", concept_rows("a"))
    path = Path(store.root) / "concepts" / "x.parquet"
    pq.write_table(pa.table({"concept_id": [b"\xff\xfe"]}), path)
    assert "holds binary" in str(wholeness.fault_in(store.folder, "concepts", "concepts/x.parquet"))


def test_wider_numbers_and_other_texts_are_well_and_merged(store: Store) -> None:
    store.append("concepts", concept_rows("a"))
    rewritten(store, "concepts", "n_pairs", pa.array([7], pa.int64()))
    rewritten(store, "concepts", "name", pa.array(["a"]).dictionary_encode())
    rewritten(store, "concepts", "description", pa.array([None], pa.null()))
    store.append("concepts", concept_rows("b"))
    assert wholeness.verify(store.folder)[1] == []
    upkeep.compact(store)
    assert store.rows("SELECT name, n_pairs FROM raw.concepts ORDER BY name") == [
        {"name": "a", "n_pairs": 7},
        {"name": "b", "n_pairs": None},
    ]


def test_times_beyond_pythons_years_are_rows_like_any_other(store: Store) -> None:
    store.append("labels", [dict.fromkeys(TABLES["labels"].schema.names) | {"label_id": "a"}])
    far = pa.array([569_000_000 * 10**9], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    rewritten(store, "labels", "labelled_at", far)
    (row,) = store.rows("SELECT label_id, labelled_at FROM raw.labels")
    assert row["label_id"] == "a"
    assert row["labelled_at"].startswith("20000-")
    assert typed(sql, "SELECT labelled_at FROM raw.labels", "--store", str(store.root), "--format", "json") == [
        {"labelled_at": row["labelled_at"]}
    ]


@pytest.mark.parametrize("text", [None, "null", "[]", "{", "[" * 100_000, "\ud800", 3])
def test_a_column_of_json_that_holds_none_is_one_error(text: object) -> None:
    with pytest.raises(StoreDamaged, match=r"raw\.runs\.spec holds .* another program wrote this store"):
        stored_object("raw.runs.spec", text)
    assert stored_object("raw.runs.spec", '{"a": 1}') == {"a": 1}


def test_a_very_long_value_is_cut_in_tables_alone(store: Store) -> None:
    (row,) = concept_rows("a")
    store.append("concepts", [{**row, "description": "x" * 300_000}])
    words = ["SELECT description FROM raw.concepts", "--store", str(store.root)]
    assert typed(sql, *words, "--format", "json") == [{"description": "x" * 300_000}]
    said = CliRunner().invoke(sql, words).stdout
    assert said.count("x") == 20_000
    assert "(300,000 letters)" in "".join(line.strip("│ ") for line in said.splitlines())
