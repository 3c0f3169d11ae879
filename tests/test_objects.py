"""A store in an object store, against a real S3 protocol server on loopback."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from steering_core.activations.extract import extract
from steering_core.concepts import Concept
from steering_core.foundation.errors import StoreError
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Store, connect, listing, upkeep, wholeness
from tests import quick
from tests.flaky import Fault, flaky
from tests.shards import count, prompts_that_share
from tests.stored import concept_rows

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


def test_extract_query_and_reuse(tiny: Model, bucket: str) -> None:
    url = f"{bucket}/one"
    with pytest.raises(StoreError, match="there is no store at s3://"):
        connect(url)
    prompts = prompts_that_share(tiny.identity.tokenizer_id)
    assert extract(tiny, Store(url), prompts, [0, 2], "last").work.computed == len(prompts)
    assert extract(tiny, Store(url), prompts, [0, 2], "last").work.computed == 0
    with connect(url) as connection:
        found = connection.sql("SELECT count(*), max(len(activation)) FROM raw.activations").fetchall()
    assert found == [(2 * len(prompts), tiny.identity.width)]


def test_rows_that_two_machines_wrote_are_seen_once(tiny: Model, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither knew of the other: both asked what was missing before either wrote."""
    store = Store(f"{bucket}/two")
    prompts = prompts_that_share(tiny.identity.tokenizer_id)
    extract(tiny, store, prompts[:10], [0], "last")
    with monkeypatch.context() as blind:
        blind.setattr(
            "steering_core.activations.extract.missing", lambda *_: {(0,): [p.prompt_id for p in prompts[5:]]}
        )
        extract(tiny, store, prompts[5:], [0], "last")
    (files,) = [row["files"] for row in upkeep.tables(store) if row["table"] == "activations"]
    assert files == 2
    assert count(store) == (len(prompts), len(prompts))


def test_a_put_creates_only(bucket: str) -> None:
    store = Store(f"{bucket}/three")
    store.append("concepts", concept_rows("a"))
    (name,) = [n for n in store.folder.names("concepts") if "schema" not in n]
    before = store.folder.read(name)
    store.folder.publish(name, store.query("SELECT * FROM raw.concepts LIMIT 0"))
    assert store.folder.read(name) == before


def test_upkeep(tiny: Model, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering_core.activations.shards.SHARD_PROMPTS", 8)
    store = Store(f"{bucket}/four")
    prompts = prompts_that_share(tiny.identity.tokenizer_id)
    extract(tiny, store, prompts, [1], "last")
    (done,) = upkeep.compact(store)
    assert done.files_after == 1 < done.files_before
    assert count(store) == (len(prompts), len(prompts))
    (shard,) = [n for n in store.folder.names("activations") if "schema" not in n]
    store.folder.write(shard, store.folder.read(shard)[:-9])
    _, (fault,) = wholeness.verify(store.folder)
    assert fault.name == shard
    assert store.folder.exists(fault.set_aside)
    assert extract(tiny, store, prompts, [1], "last").work.computed == len(prompts)


# -- requests: few, asked again where they fail, and one error where that is no help ----------------------------------


def through(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> contextlib.AbstractContextManager[Any]:
    """A proxy before moto's server, to which the store speaks from now on."""
    direct = os.environ["AWS_ENDPOINT_URL"]
    proxy = flaky(int(direct.rpartition(":")[2]), fault)
    url, seen = proxy.__enter__()
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    s3fs.S3FileSystem.clear_instance_cache()

    @contextlib.contextmanager
    def ends() -> Iterator[list[tuple[str, str]]]:
        try:
            yield seen
        finally:
            proxy.__exit__(None, None, None)
            monkeypatch.setenv("AWS_ENDPOINT_URL", direct)
            s3fs.S3FileSystem.clear_instance_cache()

    return ends()


def test_opening_and_a_tiny_run_are_few_requests(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    (tmp_path / "loud.yaml").write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": (1, 2), "doses": (0.5, 1.0), "prompts": 2, "max_tokens": 4}
    spec = Spec(models=(str(tiny_folder),), concepts=(str(tmp_path / "loud.yaml"),), generations=grid, **quick.SPEC)  # type: ignore[arg-type]
    with through(monkeypatch, lambda *_: None) as seen:
        Store(f"{bucket}/few").query("FROM leaderboard")
        assert len(seen) <= 30
        seen.clear()
        run(spec, Store(f"{bucket}/few"))
        assert len(seen) <= 500
        seen.clear()
        assert Store.existing(f"{bucket}/few").rows("SELECT count(*) AS n FROM leaderboard")[0]["n"] > 0
        assert len(seen) <= 30
        report = run(spec, Store(f"{bucket}/few"))
    assert not any(stage["computed"] for stage in report["stages"].values())


@pytest.mark.parametrize("what", ["500", "reset", "cut"])
def test_requests_that_fail_are_asked_again(bucket: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    drawn = random.Random(what)
    monkeypatch.setattr(listing, "sleep", lambda seconds: None)
    with through(monkeypatch, lambda *_: what if drawn.random() < 0.3 else None) as seen:
        for name in "abcdef":
            store = Store(f"{bucket}/flaky-{what}")
            assert store.append("concepts", concept_rows(name)) == 1
            rows = store.rows("SELECT name FROM concepts ORDER BY name")
            assert [row["name"] for row in rows] == list("abcdef"[: "abcdef".index(name) + 1])
        assert wholeness.verify(store.folder)[1] == []
    assert len(seen) > 20


@pytest.mark.parametrize("what", ["500", "reset", "cut"])
def test_requests_that_go_on_failing_are_one_error(bucket: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    url = f"{bucket}/down-{what}"
    store = Store(url)
    store.append("concepts", concept_rows("a"))
    with through(monkeypatch, lambda n, method, path: what) as seen:
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"does not answer .*check AWS_ENDPOINT_URL"):
            Store.existing(url)
        assert time.monotonic() - began < 20
        assert 3 < len(seen) < 15
    monkeypatch.setattr(listing, "sleep", lambda seconds: None)  # how long it waits was seen
    with through(monkeypatch, lambda n, method, path: what if path.endswith(".parquet") else None):
        opened = Store.existing(url)
        for verb in (lambda: opened.rows("FROM concepts"), lambda: wholeness.verify(opened.folder)):
            with pytest.raises(StoreError, match="does not answer") as caught:
                verb()
            assert "Traceback" not in str(caught.value)
    assert Store.existing(url).rows("SELECT name FROM concepts") == [{"name": "a"}]  # nothing was taken for damaged


def test_wrong_credentials_are_one_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with through(monkeypatch, lambda *_: "403") as seen, pytest.raises(StoreError, match="refuses these credentials"):
        Store(f"{bucket}/x")
    assert len(seen) < 5


def test_no_credentials_a_dead_endpoint_and_a_missing_bucket_are_one_error_each_and_nothing_else(bucket: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"}
    running = []
    for url, changed, said in (
        (f"{bucket}-missing/x", {}, "there is no bucket"),
        (f"{bucket}/x", {"AWS_ENDPOINT_URL": dead}, "does not answer"),
        (f"{bucket}/x", {**none, "HOME": "/nonexistent"}, "refuses these credentials"),
    ):
        environment = {name: value for name, value in (os.environ | changed).items() if value is not None}
        for verb in (["sql", "SELECT 1"], ["store", "verify"]):
            command = [str(Path(sys.executable).with_name("steer")), *verb, "--store", url]
            running.append((said, subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)))
    for said, process in running:  # side by side: most of their time is waiting before they ask again
        told = process.communicate(timeout=100)[1]
        assert process.returncode == 2, told
        assert said in told
        assert told.startswith("StoreError")
        assert len(told.strip().splitlines()) == 1, told


def test_an_object_that_another_machine_merged_meanwhile_is_looked_for_anew(bucket: str) -> None:
    store, other = Store(f"{bucket}/merged"), Store(f"{bucket}/merged")
    for name in "abc":
        other.append("concepts", concept_rows(name))
    assert len(store.rows("FROM concepts")) == 3
    store.folder._listing._until = time.monotonic() + 60  # type: ignore[attr-defined]  # it believes what it knows
    store.folder._listing._contents.clear()  # type: ignore[attr-defined]
    (done,) = upkeep.compact(other)
    assert (done.files_before, done.files_after) == (3, 1)
    assert len(store.rows("FROM concepts")) == 3


def test_a_great_object_is_read_in_parts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering_core.store.listing.SMALL", 1000)
    monkeypatch.setattr("steering_core.store.listing.PART", 2000)
    store = Store(f"{bucket}/great")
    store.append("concepts", [row | {"definition": str(i) * 500} for i, row in enumerate(concept_rows(*"abcdefgh"))])
    with through(monkeypatch, lambda *_: None) as seen:
        again = Store(f"{bucket}/great")
        found = again.rows("SELECT definition FROM raw.concepts ORDER BY name")
        assert [row["definition"] for row in found] == [str(i) * 500 for i in range(8)]
        assert wholeness.verify(again.folder) == (1, [])
    assert sum(path.endswith(".parquet") for _, path in seen) > 2
