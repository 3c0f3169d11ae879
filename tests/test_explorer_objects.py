"""The explorer over a store in an object store: its SQL runs in a process of its own there too."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from fastapi.testclient import TestClient

from steering_core.concepts import Concept
from steering_core.explorer.ask import MEMORY, Ask
from steering_core.explorer.box import lock
from steering_core.foundation.errors import QueryError, StoreError
from steering_core.pipeline.discover import run
from steering_core.spec import GenerationsSpec, Spec
from steering_core.store import Store, upkeep
from steering_core.store.export import export_query
from steering_core.store.listing import SECONDS
from tests import quick
from tests.explorer import AGREE, SLOW, named, serving
from tests.flaky import flaky

COUNT = "SELECT count(*) AS n FROM models"


@pytest.fixture
def here(bucket: str, tmp_path: Path) -> Store:
    """An S3 store with three models, each in an object of its own."""
    store = Store(f"{bucket}/{tmp_path.name}")
    for i in range(3):
        store.append("models", [named(i)])
    return store


@pytest.fixture
def ask(here: Store) -> Iterator[Ask]:
    ask = Ask(here, seconds=60.0)
    ask.answer("SELECT 1")  # the process is ready
    yield ask
    ask.close()


def counted(ask: Ask, sql: str = COUNT) -> int:
    return int(ask.answer(sql).rows["n"][0].as_py())


def test_the_box_answers_and_sees_what_another_process_appends(here: Store, ask: Ask) -> None:
    assert counted(ask) == 3
    here.append("models", [named(3)])
    time.sleep(SECONDS + 0.1)
    assert counted(ask) == 4
    assert ask.own(COUNT)["n"].to_pylist() == [4]
    with pytest.raises(QueryError, match="no view"):
        ask.answer(f"SELECT * FROM '{here.root}/models/*.parquet'")


def test_objects_that_are_merged_under_a_question_are_read_anew(here: Store, ask: Ask) -> None:
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(counted(ask, SLOW)))
    asking.start()
    time.sleep(0.3)
    assert asking.is_alive()
    (done,) = upkeep.compact(here)
    assert (done.files_before, done.files_after) == (3, 1)
    asking.join()
    assert answers == [3]


def test_a_locked_connection_reads_the_store_and_nothing_beside_it(here: Store, tmp_path: Path) -> None:
    """Without the check of the statement's tree, which refuses every file."""
    beside = Store(f"{here.root}-beside")
    beside.append("models", [named(9)])
    local = tmp_path / "rows.parquet"
    export_query(beside, "SELECT 1 AS a", local)
    with here.connect() as connection:
        lock(connection, here, MEMORY)
        assert connection.sql(COUNT).fetchall() == [(3,)]
        for path in (f"{beside.root}/models/*.parquet", f"{here.root}/../*/models/*.parquet", str(local)):
            with pytest.raises((duckdb.PermissionException, duckdb.IOException)):
                connection.sql(f"FROM read_parquet('{path}')").fetchall()
        with pytest.raises(duckdb.Error):
            connection.sql(f"COPY (SELECT 1) TO '{here.root}/models/x.parquet'")
    assert not here.folder.exists("models/x.parquet")


def test_an_object_store_that_stops_answering_is_one_error_and_recovers(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = False
    port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with flaky(port, lambda *_: "500" if down else None) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        ask = Ask(here, seconds=20.0)
        try:
            assert counted(ask) == 3
            down = True
            time.sleep(SECONDS + 0.1)
            with pytest.raises((QueryError, StoreError), match=r"does not answer .*check AWS_ENDPOINT_URL") as caught:
                ask.answer("SELECT name FROM models")
            assert "Traceback" not in str(caught.value)
            down = False
            assert counted(ask) == 3
        finally:
            ask.close()


def test_the_page_shows_a_run_that_is_in_an_object_store(
    bucket: str, tiny_folder: Path, tmp_path: Path, concept: Concept
) -> None:
    path = tmp_path / "agree.json"
    path.write_text(AGREE.model_dump_json(exclude_none=True))
    store = Store(f"{bucket}/page")
    grid = GenerationsSpec(layers=(1, 2), doses=(0.5, 1.0), prompts=2, max_tokens=4)
    wanted = Spec(models=(str(tiny_folder),), concepts=(str(path),), generations=grid, **quick.SPEC)
    run(wanted, store)
    with serving(store) as client:
        assert_shown(client)


def assert_shown(client: TestClient) -> None:
    shown = client.get("/api/look").json()
    assert [row["concept"] for row in shown["recommended"]] == ["agree"]
    assert shown["leaderboard"]
    answer = client.post("/api/sql", json={"sql": "SELECT count(*) AS n FROM scores"}).json()
    assert answer["rows"][0]["n"] > 0
    content = client.post("/api/sql/download", json={"sql": "FROM scores", "format": "parquet"})
    assert content.content.startswith(b"PAR1")
