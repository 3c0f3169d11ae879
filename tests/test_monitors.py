"""Gates and monitors: thresholds with their false alarms, and projections that are those of a pass of their own."""

# ruff: noqa: F401, F811  (fixtures of tests/watched.py)

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

import steering_core as steer
from steering_core.cli.main import app
from steering_core.concepts import Concept
from steering_core.engine.probes import Probe, projections
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError, PromptError, SteerflowError, VectorError
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.monitors.conversation import read_conversation
from steering_core.monitors.gates import fit_gates, of_answer
from steering_core.prompts import conversation, pair_prompt
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.keyed import by_key
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector
from tests.explorer import events, serving
from tests.watched import sentiment, vector, watched_store

TALK = [
    {"role": "user", "content": "How was your day?"},
    {"role": "assistant", "content": "It was wonderful, and I feel so happy and grateful!"},
    {"role": "user", "content": "And the evening?"},
    {"role": "assistant", "content": "It was awful, I hated every terrible minute of it."},
]


# -- gates --------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_gate_tells_held_out_sides_apart_and_says_how_often_it_errs(
    real: Model, watched_store: Store, vector: Vector, sentiment: Concept
) -> None:
    mean, token = fit_gates(real, watched_store, vector, sentiment, work := Work())
    assert (work.computed, work.reused, work.tokens) == (0, 2, 0), "the store has them"
    assert (mean.over, token.over) == ("mean", "token")
    assert mean.auc > 0.9 > token.auc > 0.55
    assert mean.hit_rate >= 0.75
    assert mean.false_alarm_rate <= 0.25
    assert mean.n_held_out == len(sentiment.pairs_in("test"))
    probe = Probe(vector.layer, vector.direction)
    above = []
    for pair in sentiment.pairs_in("test"):
        read = pair_prompt(real, sentiment, pair, "negative")
        (values,) = projections(real, read.tokens, [probe], Work())
        above.append(values[read.response_start - 1 : -1].mean() > mean.threshold)
    assert np.mean(above) == pytest.approx(mean.false_alarm_rate)
    area = np.trapezoid(mean.hits, mean.false_alarms)
    assert area == pytest.approx(mean.auc)


def test_what_is_read_of_an_answer_is_where_its_tokens_are_made() -> None:
    values = np.arange(6.0)
    assert of_answer(values, 4).tolist() == [3, 4]
    assert of_answer(values, 6).tolist() == [1, 2, 3, 4, 5], "no answer: all but the sink"
    assert of_answer(values, 1).tolist() == [1, 2, 3, 4]
    assert of_answer(values[:1], 1).tolist() == [0]
    assert of_answer(values[:2], 1).tolist() == [0], "an answer of one token behind one"


@pytest.mark.real
def test_a_gate_is_a_condition_of_tokens_or_of_the_prompt(real: Model, watched_store: Store, vector: Vector) -> None:
    def find(name: str) -> Vector:
        return library.find(watched_store, name, real.identity)

    gates = find("glad").gates
    (change,) = resolved("!glad @when(gate(glad))", find).changes
    assert change.condition is not None
    assert (change.condition.threshold, change.condition.over) == (gates["token"], "token")
    keyed, _ = by_key("!glad @all @when(gate(glad), prompt)", find, 30)
    assert str(keyed) == f"!{vector.vector_id} @all @when({vector.vector_id} > {gates['mean']!r}, prompt)"
    assert str(parse("a @when(gate(b), prompt)")) == "a @when(gate(b), prompt)"
    with pytest.raises(InterventionError, match="has no gate: fit one with `steer vectors gate"):
        resolved("a @when(gate(a))", lambda _: vector)

    asked = [[{"role": "user", "content": text}] for text in ("I feel so happy and grateful today!", "What is 3 + 4?")]
    read = [steer.monitor(real, talk, [vector]).turns[1].verdicts[vector.vector_id]["mean"] for talk in asked]
    assert read[0] > read[1]
    pushed = f"-60%*glad @response @when(glad > {sum(read) / 2}, prompt)"
    for talk, acts in zip(asked, (True, False), strict=True):
        tokens = conversation(real, talk).tokens
        rows = [Request(tokens, resolved(what, find)) for what in ("0*glad", pushed, "-60%*glad @response")]
        plain, gated, always = (s.tokens for _, s in sorted(sample(real, rows, 4, 0.0, Work())))
        assert plain != always
        assert gated == (always if acts else plain)


# -- monitors -----------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_conversations_turns_have_verdicts(real: Model, watched_store: Store, vector: Vector) -> None:
    found = steer.monitor(real, TALK, ["glad"], store=watched_store.root)
    glad, sad = (turn for turn in found.turns if turn.phase == "response")
    assert "wonderful" in glad.text
    assert glad.verdicts["glad"]["above"] is True
    assert sad.verdicts["glad"]["above"] is False
    assert 0 <= glad.verdicts["glad"]["false_alarm_rate"] <= 0.25
    assert [turn.phase for turn in found.turns] == ["system", "user", "response", "user", "response"]
    assert "".join(found.tokens).count("wonderful") == 1
    (offline,) = projections(real, _tokens(real), [Probe(15, vector.direction)], Work())
    np.testing.assert_allclose(found.values[0], offline, atol=1e-4)
    unit = vector.direction / np.linalg.norm(vector.direction)
    np.testing.assert_allclose(offline, steer_stream(real, _tokens(real), 15) @ unit, rtol=1e-3, atol=2e-3)
    with pytest.raises(VectorError, match="named twice"):
        steer.monitor(real, TALK, ["glad", "glad"], store=watched_store.root)


def _tokens(model: Model) -> tuple[int, ...]:
    from steering_core.prompts import answered_conversation

    return answered_conversation(model, TALK[:-1], TALK[-1]["content"]).tokens


def steer_stream(model: Model, tokens: tuple[int, ...], layer: int) -> np.ndarray:
    from steering_core.api.quick_vectors import residual_stream

    return residual_stream(model, tokens, layer)


@pytest.fixture(scope="module")
def client(watched_store: Store) -> Iterator[httpx.Client]:
    with serving(watched_store) as client:
        yield client  # type: ignore[misc]


@pytest.mark.real
def test_the_servers_probes_are_an_offline_projection(client: Any, real: Model, vector: Vector) -> None:
    body = {"model": "smollm2-135m", "messages": TALK[:1], "max_tokens": 10, "temperature": 0, "probes": ["glad"],
            "steering": {"expression": "40%*glad"}}  # fmt: skip
    whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]
    told = events(client, "/v1/chat/completions", {**body, "stream": True})
    streamed = [event["choices"][0] for event in told if "choices" in event]
    values = [choice["probes"]["glad"] for choice in streamed]
    assert whole["probes"]["glad"] == pytest.approx(values, rel=1e-5)
    assert streamed[-1]["probe_verdicts"]["glad"] == pytest.approx(whole["probe_verdicts"]["glad"], rel=1e-5)
    said = whole["probe_verdicts"]["glad"]
    assert said["mean"] == pytest.approx(np.mean(values))
    assert said["above"] == (said["mean"] > said["threshold"])
    tokens = conversation(real, TALK[:1]).tokens
    intervention = vector.intervention(vector.alpha(0.4), "generation")
    ((_, drawn),) = sample(real, [Request(tokens, intervention)], 10, 0.0, Work())
    sequence, probe = tokens + drawn.tokens, Probe(15, vector.direction)
    (offline,) = projections(real, sequence, [probe], Work(), intervention, len(tokens))
    np.testing.assert_allclose(values, offline[len(tokens) - 1 : -1], atol=1e-3)
    assert client.post("/v1/chat/completions", json={**body, "probes": ["no"]}).status_code == 404


def test_a_file_that_is_no_conversation_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text('{"turns": [1, 2]}')
    with pytest.raises(PromptError, match=re.escape("no conversation, but {'turns': [1, 2]}")):
        read_conversation(path)


@pytest.fixture
def planted(tiny: Model, store: Store) -> Store:
    """A store with a vector of the tiny model, called `mine`."""
    store.append("models", [asdict(tiny.identity)])
    direction = np.random.default_rng(2).standard_normal(32).astype(np.float32)
    saving.save(store, [Vector("c" * 20, tiny.identity.model_id, None, "random", 2, 4.0, direction=direction)], "mine")
    return store


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probes", "mine", "--text", "Hello", "--steer", "mine"], "--steer acts on the answers of a chat"),
        (["--probes", " , ", "--chat"], "--probes names none"),
    ],
)
def test_what_a_monitor_cannot_do_is_told(planted: Store, tiny_folder: Path, options: list[str], said: str) -> None:
    words = ["monitor", str(tiny_folder), "--store", str(planted.root), *options]
    done = CliRunner().invoke(app, words, input="Hello\n")
    assert isinstance(done.exception, SteerflowError)
    assert said in str(done.exception)


def test_a_monitored_answer_that_diverges_is_told_and_not_kept(planted: Store, tiny_folder: Path) -> None:
    words = ["monitor", str(tiny_folder), "--store", str(planted.root), "--probes", "mine", "--chat"]
    done = CliRunner().invoke(app, [*words, "--steer", f"1e38*{'c' * 20} @all"], input="Hello\n")
    assert done.exit_code == 0
    assert "gave inf or nan under add at layer 2" in done.stdout
    assert "mean" not in done.stdout


@pytest.mark.real
def test_the_command_line_monitors_and_fits_gates(watched_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({"messages": TALK}))
    run = CliRunner().invoke
    same = ["smollm2-135m", "--probes", "glad", "--store", str(watched_store.root), "--format", "json"]
    rows = json.loads(run(app, ["monitor", *same, "--conversation", str(path)]).stdout)
    assert [row["above"] for row in rows if row["phase"] == "response"] == [True, False]
    tokens = json.loads(run(app, ["monitor", *same, "--conversation", str(path), "--tokens"]).stdout)
    assert {row["phase"] for row in tokens} == {None, "system", "user", "response"}
    said = run(app, ["monitor", *same[:-2], "--chat", "--max-tokens", "5"], input="Hello\n").stdout
    assert "[glad] mean" in said
    assert "false alarms" in said
    found = run(app, ["vectors", "gate", "glad", "--concept", "sentiment", *same[3:]])
    assert [row["over"] for row in json.loads(found.stdout)] == ["mean", "token"]
    curve = run(app, ["vectors", "gate", "glad", "--concept", "sentiment", "--roc", "mean", *same[3:]])
    assert json.loads(curve.stdout)[-1]["hits"] == 1
    for wrong in ([], ["--chat", "--text", "x"]):
        assert "one of them" in str(run(app, ["monitor", *same, *wrong]).exception)
