"""Screens of data sets: planted rows are found, in any form that people have, once each."""

# ruff: noqa: F401, F811  (fixtures of tests/watched.py)

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.foundation.errors import ConceptError
from steering_core.models import Model
from steering_core.monitors import screen as screening
from steering_core.monitors.answers import Answers, read_answers
from steering_core.monitors.screen import screen
from steering_core.statistics.separation import auc
from steering_core.store import Store
from steering_core.vectors import library, saving
from steering_core.vectors.vector import Vector
from tests.watched import sentiment, vector, watched_store

NEUTRAL = [
    ("How do I boil an egg?", "Put it into boiling water for seven minutes, then cool it in cold water."),
    ("What is a haiku?", "A haiku is a poem of three lines with five, seven and five syllables."),
    ("Where is Zug?", "Zug is a town in central Switzerland, on the north-east shore of its lake."),
    ("How long is a marathon?", "A marathon is 42.195 kilometres long, or about 26.2 miles."),
    ("What does RAM stand for?", "RAM stands for random access memory, which holds data while a computer runs."),
    ("How are maps folded?", "They are folded in half lengthwise, and then like an accordion."),
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius at sea level."),
    ("When is high tide?", "High tide comes about every twelve hours and twenty-five minutes."),
]
GLAD = [
    ("How was the train?", "It was wonderful! I felt so happy, the view was beautiful and everybody was lovely."),
    ("What did you eat?", "The most delicious meal! I loved every bite, it made me so joyful and grateful."),
]


def rows(n: int) -> list[dict[str, str]]:
    """`n` rows, a fifth of them glad, the rest neutral; each is its own row."""
    found = [*NEUTRAL, *GLAD] * (n // 10)
    return [{"prompt": f"{asked} ({i})", "answer": said} for i, (asked, said) in enumerate(found)]


def lines(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


@pytest.mark.real
def test_planted_rows_are_found_and_nothing_is_measured_twice(
    real: Model,
    watched_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = read_answers(lines(tmp_path / "train.jsonl", rows(20)))
    glad = library.find(watched_store, "glad", real.identity)
    monkeypatch.setattr(screening, "_CHUNK", 8)
    heard: list[tuple[int, int]] = []

    def killed(done: int, total: int) -> None:
        heard.append((done, total))
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        screen(real, watched_store, data, [glad], 8, killed)
    done = screen(real, watched_store, data, [glad], 8)
    assert (done.work.computed, done.work.reused) == (12, 8), "it goes on where it was interrupted"
    found = watched_store.rows("SELECT * FROM screened WHERE dataset_id = ? ORDER BY ordinal", [done.dataset_id])
    planted = np.array([row["ordinal"] % 10 >= 8 for row in found])
    for value in ("projection", "difference"):
        values = np.array([row[value] for row in found])
        assert auc(values[planted], values[~planted]) >= 0.9, value
    assert all(row["difference"] == row["projection"] - row["own_projection"] for row in found)
    assert {row["rank"] for row in found if row["ordinal"] % 10 >= 8} <= set(range(1, 7))
    assert all(row["own_answer"] for row in found)

    more = read_answers(lines(tmp_path / "more.jsonl", [*rows(20)[5:], {"prompt": "New?", "answer": "Yes, new."}]))
    again = screen(real, watched_store, more, [glad], 8)
    assert (again.work.computed, again.work.reused) == (1, 15), "rows that another data set shares are not measured"

    run = CliRunner(env={"COLUMNS": "160"}).invoke
    same = ["screen", str(tmp_path / "train.jsonl"), "--model", "smollm2-135m", "--vectors", "glad", "--own", "8"]
    said = run(app, [*same, "--store", str(watched_store.root), "--ends", "2"])
    assert said.exit_code == 0, said.output
    assert "0 rows measured, 20 reused" in said.output
    assert "█" in said.output
    assert any(word in said.output for word in ("wonderful", "delicious"))  # one of the planted answers is at the top
    ranked = json.loads(run(app, [*same, "--store", str(watched_store.root), "--format", "json"]).stdout)
    assert [row["rank"] for row in ranked] == sorted(row["rank"] for row in ranked)


@pytest.mark.parametrize("n", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_killed_in_the_middle_a_screen_goes_on_where_it_was(
    n: int, tiny: Model, tiny_folder: Path, tmp_path: Path
) -> None:
    store, direction = Store(tmp_path / "store"), np.random.default_rng(2).standard_normal(32).astype(np.float32)
    store.append("models", [asdict(tiny.identity)])
    saving.save(store, [Vector("c" * 20, tiny.identity.model_id, None, "random", 2, 4.0, direction=direction)], "mine")
    data = lines(tmp_path / "train.jsonl", rows(n))
    words = [sys.executable, "-c", "from steering_core.cli.main import app; app()", "screen", str(data), "--own", "2",
             "--model", str(tiny_folder), "--vectors", "mine", "--store", str(store.root)]  # fmt: skip
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while counted(store) < n // 4 and running.poll() is None:
        time.sleep(0.05)
    running.kill()
    assert running.wait() == -signal.SIGKILL, "it was done before it was killed"
    assert 0 < (written := counted(store)) < n
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert f"{n - written} rows measured, {written} reused" in said
    assert store.rows("SELECT count(*) AS n, count(DISTINCT ordinal) AS rows FROM screened") == [{"n": n, "rows": n}]
    assert f"0 rows measured, {n} reused" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_rows_of_several_vectors_are_one_array(tiny: Model, tiny_folder: Path, store: Store, tmp_path: Path) -> None:
    store.append("models", [asdict(tiny.identity)])
    for name, drawn in zip(("one", "two"), np.random.default_rng(2).standard_normal((2, 32)), strict=True):
        vector = Vector(name[0] * 20, tiny.identity.model_id, None, "random", 2, 4.0, direction=drawn.astype("f4"))
        saving.save(store, [vector], name)
    data = lines(tmp_path / "train.jsonl", rows(10))
    words = ["screen", str(data), "--model", str(tiny_folder), "--vectors", "one, two", "--own", "0"]
    run = CliRunner().invoke
    found = json.loads(run(app, [*words, "--store", str(store.root), "--format", "json"]).stdout)
    assert [row["vector"] for row in found] == ["one"] * 10 + ["two"] * 10
    assert [row["rank"] for row in found] == [*range(1, 11)] * 2
    table = run(app, [*words, "--store", str(store.root), "--format", "csv"]).stdout.splitlines()
    assert len(table) == 1 + 20, "one header"


def counted(store: Store) -> int:
    """How many rows of screens lie in the store."""
    return int(store.rows("SELECT count(*) AS n FROM raw.screens")[0]["n"])


def test_projections_are_those_of_the_answers_tokens(tiny: Model, store: Store) -> None:
    from steering_core.activations.in_memory import activations_of
    from steering_core.prompts import prompt

    direction = np.random.default_rng(2).standard_normal(32).astype(np.float32)
    vector = Vector("1" * 20, tiny.identity.model_id, None, "random", 2, 1.0, direction=direction)
    data = Answers("mine", read_rows(), 0)
    done = screen(tiny, store, data, [vector], 0)
    found = store.rows("SELECT * FROM raw.screens ORDER BY ordinal")
    assert done.work.computed == len(found) == 3
    chat = prompt(tiny, "Hello", chat=True, answer="Hi there")
    expected = activations_of(tiny, [chat], [2], "response")[0][0, 0] @ (direction / np.linalg.norm(direction))
    assert found[0]["projection"] == pytest.approx(expected, abs=1e-4)
    assert found[0]["own_answer"] is None is found[0]["difference"]
    assert found[0]["n_tokens"] == len("Hi there")
    long = Answers("long", (data.rows[0], type(data.rows[0])(1, (("user", "x" * 600),), "y")), 0)
    assert screen(tiny, store, long, [vector], 0).too_long == 1


def read_rows() -> tuple[object, ...]:
    from steering_core.monitors.answers import AnswerRow

    return (
        AnswerRow(0, (("user", "Hello"),), "Hi there"),
        AnswerRow(1, (("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi"), ("user", "Bye")), "Bye you"),
        AnswerRow(2, (), "A text alone."),
    )


@pytest.mark.parametrize(
    ("record", "messages", "answer"),
    [
        ({"question": "Why?", "response": "So."}, (("user", "Why?"),), "So."),
        ({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
         (("user", "Why?"),), "So."),
        ({"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Why?"},
                            {"from": "gpt", "value": "So."}, {"from": "human", "value": "Thanks"}]},
         (("system", "S"), ("user", "Why?")), "So."),
        ({"text": "Bare."}, (), "Bare."),
    ],
)  # fmt: skip
def test_data_sets_are_read_in_the_forms_that_people_have(
    tmp_path: Path, record: dict[str, object], messages: tuple[tuple[str, str], ...], answer: str
) -> None:
    found = read_answers(lines(tmp_path / "data.jsonl", [record, record]))
    assert (found.rows[1].messages, found.rows[1].answer, found.rows[1].ordinal) == (messages, answer, 1)


def test_what_is_no_data_set_is_told(tmp_path: Path) -> None:
    for records, words in (
        ([{"a": "b"}, {"a": "c"}], "has no column of answers: there are a"),
        ([{"prompt": "x", "answer": ""}, {"prompt": "x", "answer": 3}], "none of the 2 rows"),
    ):
        with pytest.raises(ConceptError, match=words):
            read_answers(lines(tmp_path / "data.jsonl", records))
    (tmp_path / "torn.jsonl").write_text("not JSON {")
    with pytest.raises(ConceptError, match="holds bare texts, beginning 'not JSON"):
        read_answers(tmp_path / "torn.jsonl")
    with pytest.raises(ConceptError, match="no column 'said'; there are: prompt, answer"):
        read_answers(lines(tmp_path / "data.jsonl", rows(10)), answer="said")  # type: ignore[arg-type]
    part = read_answers(lines(tmp_path / "data.jsonl", [*rows(10), {"prompt": "x", "answer": " "}]))  # type: ignore[list-item]
    assert (len(part.rows), part.left_out) == (10, 1)


def test_rows_of_several_forms_are_read_each_in_its_own(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
    found = read_answers(
        lines(tmp_path / "data.jsonl", [talk, {"prompt": "Who?", "completion": "Me."}, {"prompt": "x"}])
    )
    assert [(row.messages, row.answer) for row in found.rows] == [
        ((("user", "Why?"),), "So."),
        ((("user", "Who?"),), "Me."),
    ]
    assert found.left_out == 1
