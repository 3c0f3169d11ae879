"""The explorer's API: vectors that read along with a text, and conversations of several turns, on a tiny model."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from steering_core.concepts import Concept, Pair
from steering_core.engine.probes import Probe, projections
from steering_core.engine.sampling import Request, sample
from steering_core.explorer.sse import data_line
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.monitors.gates import fit_gates
from steering_core.prompts import conversation
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.vector import Vector
from tests.explorer import events, serving

PAIRS = tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD! LOUD!", negative=f"{i} quiet.") for i in range(20))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny: Model) -> Store:
    """A store with two vectors of the tiny model: `gated`, which has a gate, and `plain`, which has none."""
    store, draw = Store(tmp_path_factory.mktemp("watch") / "store"), np.random.default_rng(5)
    store.append("models", [asdict(tiny.identity)])
    for key, name, layer in (("a", "gated", 2), ("b", "plain", 1)):
        direction = draw.standard_normal(32).astype(np.float32)
        vector = Vector(key * 20, tiny.identity.model_id, None, "random", layer, 4.0, direction=direction)
        saving.save(store, [vector], name)
    fit_gates(tiny, store, library.find(store, "gated"), Concept(name="loud", chat=True, pairs=PAIRS), Work())
    return store


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[TestClient]:
    with serving(store) as client:
        yield client


def asked(tiny_folder: Path, **more: Any) -> dict[str, Any]:
    return {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 6, "seed": 3, "temperature": 0.7, **more}


def read_and_said(found: list[dict[str, Any]], row: int) -> tuple[np.ndarray, str, dict[str, Any]]:
    """A row's projections (T, K), its text and its verdicts."""
    tokens = [event for event in found if event["event"] == "token" and event["row"] == row]
    return np.array([t["projections"] for t in tokens]), "".join(t["text"] for t in tokens), tokens[-1]["verdicts"]


def test_watching_vectors_read_what_an_offline_pass_reads(
    client: TestClient, tiny: Model, store: Store, tiny_folder: Path
) -> None:
    gated, plain = library.find(store, "gated"), library.find(store, "plain")
    steering = {"vectors": [{"vector": "plain", "dose": 0.5}]}
    body = asked(tiny_folder, steering=steering, probes=[gated.vector_id, "plain"])
    found = events(client, "/api/steer", body)
    start = next(event for event in found if event["event"] == "start")
    assert [one["name"] for one in start["watched"]] == [gated.vector_id, "plain"]
    assert [one["threshold"] for one in start["watched"]] == [pytest.approx(gated.gates["token"]), None]
    assert [one["pushed"] for one in start["watched"]] == [0, pytest.approx(0.5 * 4.0)]  # only plain's layer is pushed
    tokens = conversation(tiny, [{"role": "user", "content": "Hello"}]).tokens
    probes = [Probe(v.layer, v.direction) for v in (plain, gated, plain)]  # what steers comes first
    for row, what in enumerate((Intervention(), plain.intervention(plain.alpha(0.5), "generation"))):
        values, said, verdicts = read_and_said(found, row)
        ((_, drawn),) = sample(tiny, [Request(tokens, what, 3)], 6, 0.7, Work())
        assert drawn.text == said
        offline = projections(tiny, tokens + drawn.tokens, probes, Work(), what, len(tokens))
        np.testing.assert_allclose(values.T, offline[:, len(tokens) - 1 : len(tokens) - 1 + len(values)], atol=1e-4)
        assert verdicts["plain"]["mean"] == pytest.approx(values[:, 2].mean())
        assert verdicts["plain"]["above"] is None
        mean = verdicts[gated.vector_id]
        assert mean["threshold"] == pytest.approx(gated.gates["mean"])
        assert mean["above"] is bool(mean["mean"] > mean["threshold"])


def test_a_watching_vector_changes_no_text(client: TestClient, tiny_folder: Path) -> None:
    alone = events(client, "/api/steer", asked(tiny_folder))
    beside = events(client, "/api/steer", asked(tiny_folder, probes=["gated"]))
    texts = [[(e["row"], e["text"]) for e in found if e["event"] == "token"] for found in (alone, beside)]
    assert sorted(texts[0]) == sorted(texts[1])
    assert not any("verdicts" in event for event in alone)


def test_each_answer_goes_on_from_its_own_conversation(client: TestClient, tiny: Model, tiny_folder: Path) -> None:
    history = [{"prompt": "Hi", "base": "Good day.", "steered": "HEY!"}]
    found = events(client, "/api/steer", asked(tiny_folder, history=history, system="Be kind."))
    for row, answer in enumerate(("Good day.", "HEY!")):
        talk = [("system", "Be kind."), ("user", "Hi"), ("assistant", answer), ("user", "Hello")]
        tokens = conversation(tiny, [{"role": role, "content": text} for role, text in talk]).tokens
        ((_, alone),) = sample(tiny, [Request(tokens, seed=3)], 6, 0.7, Work())
        said = "".join(e["text"] for e in found if e["event"] == "token" and e["row"] == row)
        assert said == alone.text, answer


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"probes": ["gated", "gated"]}, "named twice"),
        ({"probes": ["x"] * 9}, "8"),
        ({"history": [{"prompt": "Hi", "steered": "HEY!"}]}, "base model's own answer"),
        ({"history": [{"prompt": "Hi", "steered": "HEY!", "base": "Hi"}], "chat": False}, "no turns before it"),
    ],
)
def test_what_cannot_be_is_refused(client: TestClient, tiny_folder: Path, more: dict[str, Any], words: str) -> None:
    answer = client.post("/api/steer", json=asked(tiny_folder, **more))
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (422, True), answer.text


def test_a_vector_that_is_not_there_is_told_in_the_stream(client: TestClient, tiny_folder: Path) -> None:
    *_, last = events(client, "/api/steer", asked(tiny_folder, probes=["nowhere"]))
    assert (last["event"], "nowhere" in last["message"]) == ("error", True)


def test_an_overflown_projection_is_null(client: TestClient, tiny_folder: Path) -> None:
    assert json.loads(data_line({"projections": [float("nan"), 1.0]})[6:]) == {"projections": [None, 1.0]}


def test_a_command_answers_one_prompt(client: TestClient, tiny_folder: Path) -> None:
    history = [{"prompt": "Hi", "base": "Good day.", "steered": "HEY!"}]
    answer = client.post("/api/command", json=asked(tiny_folder, history=history))
    assert (answer.status_code, "copy several turns as Python" in answer.text) == (400, True)
