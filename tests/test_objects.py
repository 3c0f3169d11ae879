"""A store in an object store, against a real S3 protocol server on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from steering_core.activations.extract import extract
from steering_core.errors import StoreError
from steering_core.models import Model
from steering_core.store import Store, connect, upkeep, wholeness
from tests.test_activations import prompts_that_share
from tests.test_store import concept_rows, count

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """s3://… of an empty bucket on moto's server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    given = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    name = f"steer-{uuid.uuid4().hex[:8]}"
    for _ in range(300):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT"))
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    else:
        pytest.fail("moto's server did not start")
    yield f"s3://{name}"
    server.terminate()
    server.wait()
    for key, value in before.items():
        if value is None:
            del os.environ[key]
        else:
            os.environ[key] = value


def test_extract_query_and_reuse(tiny: Model, bucket: str) -> None:
    url = f"{bucket}/one"
    with pytest.raises(StoreError, match="there is no store at s3://"):
        connect(url)
    prompts = prompts_that_share(tiny.identity.tokenizer_id)
    assert extract(tiny, Store(url), prompts, [0, 2], "last").computed == len(prompts)
    assert extract(tiny, Store(url), prompts, [0, 2], "last").computed == 0
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
    assert extract(tiny, store, prompts, [1], "last").computed == len(prompts)
