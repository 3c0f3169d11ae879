"""What the explorer's tests share: a store with a run in it, and the explorer over it, served or called in place."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from steering_core.concepts import Concept, Item, Pair
from steering_core.explorer.app import explorer_app
from steering_core.explorer.server import server
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick

HOST = "http://127.0.0.1"
AGREE = Concept(
    name="agree",
    pairs=tuple(Pair(positive=f"{i} yes", negative=f"{i} no") for i in range(5)),
    prompts=("Well,",),
    items=tuple(Item(prompt=f"Is it {i}?", matching="yes", not_matching="no") for i in range(4)),
)
MODEL: dict[str, object] = {
    **{"model_id": "m", "name": "tiny", "architecture": "llama", "n_layers": 4, "width": 32, "vocab_size": 9},
    **{"dtype": "float32", "quantisation": "none", "tokenizer_id": "t", "context": 512},
    **{"template": None, "system_role": None},
}
SLOW = "SELECT count(*) AS n FROM models WHERE model_id > (SELECT min(md5(range::VARCHAR)) FROM range(6_000_000))"


def ran_store(folder: Path, model: Path, concept: Concept, **changes: Any) -> Store:
    """A store that holds a small run of `concept` on the tiny model; `changes` are sections of its spec."""
    path = folder / f"{concept.name}.yaml"
    path.write_text(json.dumps(concept.model_dump(mode="json", exclude_none=True)))
    store = Store(folder / "store")
    grid = {"layers": (1, 2), "doses": (-0.5, 0.5, 1.0), "prompts": 2, "max_tokens": 4}
    run(Spec(models=(str(model),), concepts=(str(path),), generations=grid, **quick.SPEC | changes), store)
    return store


def copied(store: Path, to: Path) -> Store:
    """A copy of a store, for tests that may change it."""
    return Store(shutil.copytree(store, to / "store"))


@contextmanager
def serving(store: Store, **options: Any) -> Iterator[TestClient]:
    """A client of the explorer over `store`."""
    with TestClient(explorer_app(store, **options), base_url=HOST, raise_server_exceptions=False) as client:
        yield client


def events(client: TestClient, url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every server-sent event of one request, as it came."""
    with client.stream("POST", url, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    return [{"event": "[DONE]"} if line == "[DONE]" else json.loads(line) for line in lines]


@contextmanager
def served(store: Store, **options: Any) -> Iterator[str]:
    """The address of the explorer over `store`, on a real server."""
    with served_app(explorer_app(store, **options)) as address:
        yield address


@contextmanager
def served_app(app: FastAPI) -> Iterator[str]:
    """The address of `app`, on a real server."""
    serving = server(app, timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            serving.should_exit = True
            thread.join()


def named(i: int) -> dict[str, object]:
    return {**MODEL, "model_id": f"m{i}", "name": f"tiny {i}"}
