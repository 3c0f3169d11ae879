"""The judge's rubric: three ratings and their mean for each text, from a judge that knew texts of known quality."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.concepts import Concept
from steering_core.concepts.library import available_concepts, load_concept
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import JudgeUntrusted, SpecError
from steering_core.foundation.judging import JudgeSpec
from steering_core.reports.artifact import markdown_report
from steering_core.reports.page import report_page
from steering_core.scores.judge import RUBRIC_SCALE, Judge, rating_in
from steering_core.scores.planted import checks_of, planted_texts, require_trusted, trusted
from steering_core.scores.rubric import harmonic_mean
from steering_core.statistics.metric_names import RATINGS, RUBRIC
from steering_core.store import Store
from tests.capitals import ran
from tests.chat_server import Reply, chat_server, said

NAN = math.nan
Answer = Callable[[dict[str, Any], int], Reply]


# -- one question -------------------------------------------------------------------------------------------------


def test_each_question_sees_what_it_is_about_and_no_more(concept: Concept) -> None:
    asked = {m: Judge(JudgeSpec(model="m"), concept, m).question("The prompt?", "The text.") for m in RATINGS}
    assert all("The text." in question for question in asked.values())
    assert [m for m, question in asked.items() if "The prompt?" in question] == ["judge_instruction"]
    assert [m for m, question in asked.items() if concept.name in question] == ["judge_concept"]
    keys = {Judge(JudgeSpec(model="m", endpoint="http://h/v1"), concept, m).key for m in RATINGS}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("2", 2), ("Rating: 1.", 1), ("0/2", 0), ("1.5", None), ("3", None), ("1 or 2", None), ("of 0, 1, 2: [[1]]", 1)],
)
def test_a_rubrics_rating_is_0_1_or_2(reply: str, rating: int | None) -> None:
    assert rating_in(reply, RUBRIC_SCALE) == rating


def rated(answer: Answer, concept: Concept) -> tuple[list[float], list[str | None], list[dict[str, Any]]]:
    """Values, replies and what was asked, of one text's fluency."""
    with chat_server(answer) as server:
        judge = Judge(JudgeSpec(model="m", endpoint=server.url), concept, "judge_fluency")
        found = list(judge.rated([("Hello", "Hello to you.")], Work()))
    return [r.value for r in found], [r.reply for r in found], [body for _, _, body in server.asked]


def test_a_reply_without_a_rating_is_answered_by_one_reminder(concept: Concept) -> None:
    values, replies, asked = rated(lambda body, n: said("It reads well." if n == 0 else "2"), concept)
    assert (values, replies) == ([2.0], ["It reads well.\n2"])
    assert [m["role"] for m in asked[1]["messages"]] == ["user", "assistant", "user"]
    assert asked[1]["messages"][:2] == [*asked[0]["messages"], {"role": "assistant", "content": "It reads well."}]
    assert "from 0 to 2" in asked[1]["messages"][2]["content"]


def test_a_judge_that_never_rates_is_asked_twice_and_no_more(
    concept: Concept, caplog: pytest.LogCaptureFixture
) -> None:
    (value,), replies, asked = rated(lambda body, n: said("Well."), concept)
    assert math.isnan(value)
    assert (replies, len(asked)) == (["Well.\nWell."], 2)
    assert "m gave no rating for 1 of 1 texts (judge_fluency)" in caplog.text


@pytest.mark.parametrize(
    ("ratings", "mean"),
    [((2, 2, 2), 2), ((1, 1, 1), 1), ((1, 1, 2), 1.2), ((2, 2, 1), 1.5), ((0, 2, 2), 0), ((0, 0, 0), 0)],
)
def test_the_harmonic_mean_in_closed_form(ratings: tuple[int, ...], mean: float) -> None:
    assert harmonic_mean(ratings) == pytest.approx(mean)
    assert math.isnan(harmonic_mean((*ratings, NAN)))


# -- planted texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(available_concepts()))
def test_every_shipped_concept_has_its_planted_texts(name: str) -> None:
    concept = load_concept(name)
    planted = planted_texts(concept)
    answers = bool(concept.pairs[0].prompt)
    kinds = ["gibberish", "not shown", "shown", *(["another reply"] if answers else [])]
    assert sorted(one.kind for one in planted) == sorted(kinds * 6)
    positive, negative = ({getattr(pair, side) for pair in concept.pairs} for side in ("positive", "negative"))
    words = {word for text in positive for word in text.split()} | set(concept.words.positive)
    of_prompt = {pair.prompt: pair.positive for pair in concept.pairs}
    for one in planted:
        if one.kind == "gibberish":
            assert one.text not in positive | negative
            assert {*one.text.split()} <= words | {w for p in concept.words.positive for w in p.split()}
            assert one.expected == {"judge_fluency": 0}
        else:
            assert one.text in (negative if one.kind == "not shown" else positive)
        if one.kind == "another reply":
            assert of_prompt[one.prompt] != one.text
            assert one.expected["judge_instruction"] == 0
    assert planted == planted_texts(concept)


def knowing(concept: Concept, wrong: Callable[[str, str], int | None] = lambda kind, metric: None) -> Answer:
    """A judge that knows every planted text; `wrong` says what it says instead, for a kind and a question."""
    answers = {}
    for metric in RATINGS:
        judge = Judge(JudgeSpec(model="m"), concept, metric)
        for one in (one for one in planted_texts(concept) if metric in one.expected):
            instead = wrong(one.kind, metric)
            answers[judge.question(one.prompt, one.text)] = one.expected[metric] if instead is None else instead
    return lambda body, n: said(str(answers[body["messages"][0]["content"]]))


def test_a_judge_that_knows_is_trusted_and_asked_once(store: Store) -> None:
    concept = load_concept("sentiment")
    with chat_server(knowing(concept)) as server:
        spec = JudgeSpec(model="wise", endpoint=server.url)
        checks = checks_of(spec, concept, store, Work())
        require_trusted(spec, concept, checks)
        asked = len(server.asked)
        assert asked == 6 * (3 + 3 + 1 + 2)
        assert checks_of(spec, concept, store, Work()) == checks
        assert trusted(spec, concept, store, Work())
        assert len(server.asked) == asked
    assert {(c.kind, c.metric): (c.expected, c.agreed, c.n) for c in checks} == {
        ("shown", "judge_concept"): (2, 6, 6), ("not shown", "judge_concept"): (0, 6, 6),
        ("shown", "judge_instruction"): (2, 6, 6), ("not shown", "judge_instruction"): (2, 6, 6),
        ("another reply", "judge_instruction"): (0, 6, 6), ("another reply", "judge_fluency"): (2, 6, 6),
        ("shown", "judge_fluency"): (2, 6, 6), ("not shown", "judge_fluency"): (2, 6, 6),
        ("gibberish", "judge_fluency"): (0, 6, 6),
    }  # fmt: skip
    view = store.rows("SELECT count(*) AS n, bool_and(passed) AS passed FROM judge_checks WHERE scored_by = 'wise'")
    assert view == [{"n": 9, "passed": True}]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda kind, metric: 2, ["gibberish: 0 of 6 have judge_fluency 0", "not shown: 0 of 6 have judge_concept 0"]),
        (lambda kind, metric: 1 if kind == "gibberish" else None, ["gibberish: 0 of 6 have judge_fluency 0"]),
        (lambda kind, metric: 2 if kind == "another reply" else None, ["another reply: 0 of 6 have judge_instruction"]),
        (lambda kind, metric: 0, ["shown: 0 of 6 have judge_concept 2"]),
    ],
)
def test_a_judge_that_does_not_know_is_refused_by_name(
    store: Store, wrong: Callable[[str, str], int | None], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    concept = load_concept("sentiment")
    with chat_server(knowing(concept, wrong)) as server:
        spec = JudgeSpec(model="fond", endpoint=server.url)
        with pytest.raises(JudgeUntrusted, match="the judge fond may not be trusted with sentiment") as fault:
            require_trusted(spec, concept, checks_of(spec, concept, store, Work()))
        assert all(part in str(fault.value) for part in named)
        assert not trusted(spec, concept, store, Work())
        assert "fond may not be trusted" in caplog.text
        assert trusted(spec.model_copy(update={"calibration": "warn"}), concept, store, Work())
        asked = len(server.asked)
        assert trusted(JudgeSpec(model="new", endpoint=server.url, calibration="none"), concept, store, Work())
        assert trusted(JudgeSpec(model="new", endpoint=server.url, prompt="{text}?"), concept, store, Work())
        assert len(server.asked) == asked


def test_a_judge_that_rates_nothing_is_told_of_in_one_clause(store: Store) -> None:
    concept = load_concept("sentiment")
    with chat_server(lambda body, n: said("The text is written in a clear and concise manner.")) as server:
        spec = JudgeSpec(model="mute", endpoint=server.url)
        with pytest.raises(JudgeUntrusted, match=r"\(none of 54 replies holds a rating, even after a reminder\)"):
            require_trusted(spec, concept, checks_of(spec, concept, store, Work()))


def test_one_slip_is_forgiven_but_for_gibberish(store: Store) -> None:
    concept = load_concept("sentiment")
    slipped = dict.fromkeys(("shown", "gibberish"), 0)

    def slip(kind: str, metric: str) -> int | None:
        """1 for the fluency of the first text of either kind."""
        if kind not in slipped or metric != "judge_fluency" or slipped[kind]:
            return None
        slipped[kind] += 1
        return 1

    with chat_server(knowing(concept, slip)) as server:
        checks = checks_of(JudgeSpec(model="m", endpoint=server.url), concept, store, Work())
    assert [(c.kind, c.agreed) for c in checks if c.agreed < c.n] == [("gibberish", 5), ("shown", 5)]
    assert [c.kind for c in checks if not c.passed] == ["gibberish"]


# -- a run --------------------------------------------------------------------------------------------------------


def by_capitals(body: dict[str, Any], n: int) -> Reply:
    """A judge of the toy's texts: capitals are the concept, thirty words are gibberish, relevance is middling."""
    question = body["messages"][0]["content"]
    answer = question.split("<text>\n")[1].split("\n</text>")[0]
    if "<message>" in question:
        return said("1", model="judge-1")
    if "Look for one thing" in question:
        capitals = sum(letter.isupper() for letter in answer) / max(sum(letter.isalpha() for letter in answer), 1)
        return said(str(round(2 * capitals)), model="judge-1")
    return said("0" if len(answer.split()) > 20 else "2", model="judge-1")


def test_three_ratings_and_their_mean_are_stored_for_each_text(tmp_path: Path) -> None:
    with chat_server(by_capitals) as server:
        asked = {"model": "judge", "endpoint": server.url}
        store = ran(tmp_path, asked)
        first = len(server.asked)
        ran(tmp_path, asked)
        assert len(server.asked) == first
    texts = store.rows(
        f"PIVOT (SELECT subject_id, split, metric, value FROM measurements WHERE metric IN {RUBRIC}) "
        "ON metric USING max(value)"
    )
    planted = store.rows("SELECT count(*) AS n FROM raw.planted")[0]["n"]
    assert first == 3 * len(texts) + planted
    assert len({row["judge_concept"] for row in texts}) > 1
    for row in texts:
        assert row["judge_harmonic"] == pytest.approx(harmonic_mean([row[metric] for metric in RATINGS]))
    said_by = store.rows(
        "SELECT DISTINCT metric, scored_by, scorer_version FROM measurements WHERE metric LIKE 'judge%'"
    )
    assert {(r["metric"], r["scored_by"], r["scorer_version"]) for r in said_by} == {
        (metric, "judge", "judge-1") for metric in RUBRIC
    }
    board = store.rows("SELECT control, alpha, judge_harmonic FROM leaderboard WHERE split = 'test'")
    of = {r["control"] or "steered": r["judge_harmonic"] for r in board if r["judge_harmonic"] is not None}
    assert of["steered"] > of["none"]
    (chosen,) = store.rows("SELECT shown_by, shown_before, shown_after FROM recommendations")
    assert chosen["shown_by"] == "judge_concept"
    assert chosen["shown_after"] > chosen["shown_before"]
    assert "may not be trusted" not in report_page(store)
    assert "The judge on texts of known quality" in report_page(store)


def test_a_judge_that_fails_is_not_asked_and_named_in_the_report(tmp_path: Path) -> None:
    with chat_server(lambda body, n: said("2")) as server:
        asked = {"model": "fond", "endpoint": server.url}
        store = ran(tmp_path, asked)
        planted = len(server.asked)
        assert store.rows("SELECT count(*) AS n FROM raw.planted") == [{"n": planted}]
        assert store.rows("SELECT count(*) AS n FROM measurements WHERE metric LIKE 'judge%'") == [{"n": 0}]
        (row,) = store.rows("FROM recommendations")
        assert row["shown_by"] != "judge_concept"
        for report in (report_page(store), markdown_report(store, {"recommendations": [row], "stages": {}})):
            assert "The judge fond may not be trusted" in report
        ran(tmp_path, asked | {"calibration": "warn"})
        assert len(server.asked) > planted
        assert store.rows("SELECT DISTINCT value FROM measurements WHERE metric = 'judge_harmonic'") == [{"value": 2.0}]


def test_a_judge_without_words_is_no_fault_of_the_vectors(tmp_path: Path) -> None:
    with chat_server(lambda body, n: said("Well.")) as server:
        store = ran(tmp_path, {"model": "mute", "endpoint": server.url, "calibration": "none"})
    (row,) = store.rows("SELECT verdict, n_missing FROM recommendations")
    assert row == {"verdict": "works", "n_missing": 0}
    missing = store.rows("SELECT max(n_missing) AS n FROM scores WHERE metric = 'judge_harmonic'")
    assert missing[0]["n"] > 0


# -- the verb -----------------------------------------------------------------------------------------------------


def test_the_verb_shows_every_check_and_ends_in_what_failed(tmp_path: Path) -> None:
    at = ["judge", "quickstart", "--model", "m", "--store", str(tmp_path / "store"), "--format", "json"]
    concept = load_concept("sentiment")
    with chat_server(knowing(concept)) as server:
        done = CliRunner().invoke(app, [*at, "--endpoint", server.url])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)
        assert len(rows) == 9
        assert all(row["passed"] for row in rows)
    with chat_server(knowing(concept, lambda kind, metric: 2)) as server:
        done = CliRunner().invoke(app, [*at, "--endpoint", server.url])
        assert isinstance(done.exception, JudgeUntrusted)
        assert len(json.loads(done.stdout)) == 9
    done = CliRunner().invoke(app, ["judge", "quickstart", "--store", str(tmp_path / "store")])
    assert isinstance(done.exception, SpecError)
    assert "names no judge" in str(done.exception)
    done = CliRunner().invoke(app, ["judge", "quickstart", "--endpoint", "http://127.0.0.1:9/v1"])
    assert isinstance(done.exception, SpecError)
    assert "--endpoint is where another judge answers: add --model NAME" in str(done.exception)
