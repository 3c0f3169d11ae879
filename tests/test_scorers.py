"""Scorers of texts: the probe is scikit-learn's on pairs that vectors never see; a judge's every word is kept."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from steering_core.concepts import Concept, Pair
from steering_core.foundation.counting import Work
from steering_core.foundation.endpoint import Endpoint
from steering_core.foundation.errors import EndpointError, SettingError, SpecError
from steering_core.foundation.judging import JudgeSpec
from steering_core.models import Model
from steering_core.prompts import open_prompt
from steering_core.reports.page import report_page
from steering_core.scores.judge import Judge, rating_in
from steering_core.scores.probe import _contrasts, _free_layer, answer_activations, probe_for
from steering_core.scores.scorers import ScoredText
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests.capitals import ran
from tests.chat_server import Reply, chat_server, said
from tests.explorer import served


def text(model: Model, concept: Concept, answer: str) -> ScoredText:
    tokens = tuple(model.tokenizer.encode(answer, add_special_tokens=False))
    return ScoredText(open_prompt(model, concept, concept.prompts[0]), tokens, answer, "length")


# -- the probe ----------------------------------------------------------------------------------------------------


def test_the_probe_is_sklearns_on_the_pairs_that_vectors_are_not_made_from(tiny: Model, store: Store) -> None:
    loud = Concept(
        name="loud", chat=True, prompts=("Hello",),
        pairs=tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD!", negative=f"{i} quiet.") for i in range(40)),
    )  # fmt: skip
    probe = probe_for(tiny, store, loud, steered={2})
    assert probe is not None
    assert probe.layer == 3  # of four; 2 is steered
    (seen,) = _contrasts(tiny, store, loud, [("validation", "test")], probe.layer)
    assert len(seen.positive) == 16  # and no training pair among them
    rows = np.concatenate([seen.positive, seen.negative]).astype(np.float64)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000))
    theirs.fit(rows, np.repeat([1, 0], 16))
    texts = [text(tiny, loud, answer) for answer in ("LOUD! LOUD!", "quiet.", "7", "Nothing at all")]
    activations = answer_activations(tiny, texts, probe.layer, Work())
    found = [rating.value for rating in probe.ratings(texts, Work())]
    assert found == pytest.approx(theirs.predict_proba(activations)[:, 1], abs=1e-5)


def test_a_text_is_read_by_the_untouched_model_without_its_neighbours(tiny: Model, concept: Concept) -> None:
    texts = [text(tiny, concept, answer) for answer in ("LOUD! LOUD!", "quiet.", "quiet.", "LOUD!", "quite")]
    together = answer_activations(tiny, texts, 1, Work())
    for i, one in enumerate(texts):
        assert together[i] == pytest.approx(answer_activations(tiny, [one], 1, Work())[0], abs=1e-4)


def test_a_probes_layer_is_never_a_steered_one() -> None:
    assert _free_layer(30, []) == 19
    assert _free_layer(30, [19, 20, 18]) == 21
    assert _free_layer(4, range(1, 4)) == 0
    assert _free_layer(2, [0, 1]) is None


def test_a_probe_that_cannot_be_trained_or_means_nothing_says_so(
    tiny: Model, store: Store, concept: Concept, caplog: pytest.LogCaptureFixture
) -> None:
    few = concept.model_copy(update={"pairs": concept.pairs[:4]})
    assert probe_for(tiny, store, few, steered={}) is None
    assert probe_for(tiny, store, concept, steered=range(4)) is None
    names = [f"{a}{b}" for a in "bdfgkl" for b in "aeiou"]
    nothing = Concept(name="nothing", pairs=_flipped(tuple(Pair(positive=a, negative=a[::-1]) for a in names)))
    probe = probe_for(tiny, store, nothing, steered={})
    assert probe is not None
    assert probe.trained.auc < 0.8
    said_so = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "pairs, 4 needed" in said_so[0]
    assert "every layer is steered" in said_so[1]
    assert "hardly tells pairs apart: AUC" in said_so[2]


def _flipped(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Every other pair with its sides exchanged."""
    return tuple(
        Pair(positive=p.negative, negative=p.positive) if i % 2 else p for i, p in enumerate(pairs)
    )  # fmt: skip


def test_a_planted_direction_shows_in_texts_as_the_probe_reads_them(tmp_path: Path) -> None:
    store = ran(tmp_path, metrics=["propensity", "perplexity", "probe"])
    rows = store.rows("SELECT control, probe, alpha FROM leaderboard WHERE split = 'test' AND probe IS NOT NULL")
    of = {row["control"] or ("mirrored" if row["alpha"] < 0 else "steered"): row["probe"] for row in rows}
    assert of["steered"] > 0.95 > of["none"] > of["mirrored"] + 0.3
    assert set(of) == {"steered", "none", "mirrored"}  # what shows chance has no texts
    layers = store.rows("SELECT DISTINCT layer FROM generations WHERE layer IS NOT NULL")
    (probe,) = store.rows("SELECT DISTINCT layer, n_pairs, auc, model FROM scorers")
    assert probe["layer"] not in {row["layer"] for row in layers}
    assert (probe["n_pairs"], probe["auc"]) == (19, 1.0)
    page = report_page(store)
    assert "<h3>What the texts say</h3>" in page
    assert "<h3>Who says so</h3>" in page


# -- the judge, asked a question of the spec's own (its rubric: tests/test_judge.py) -------------------------------

OWN = "Look for {concept}, from 0 to 10.\nQuestion: {prompt}\nAnswer: {text}"


def capitals(body: dict[str, Any], n: int) -> Reply:
    """A judge that counts capital letters."""
    answer = body["messages"][0]["content"].split("Answer: ")[1].splitlines()[0]
    share = sum(letter.isupper() for letter in answer) / max(sum(letter.isalpha() for letter in answer), 1)
    return said(f"Rating: {round(10 * share)}/10", model="judge-2026-11")


def test_a_judge_rates_every_text_once_and_its_words_are_kept(tmp_path: Path) -> None:
    with chat_server(capitals) as server:
        asked = {"model": "judge", "endpoint": server.url, "prompt": OWN}
        store = ran(tmp_path, asked)
        first = len(server.asked)
        assert store.rows("SELECT count(*) AS n FROM measurements WHERE metric = 'judge'") == [{"n": first}]
        assert store.rows(
            "SELECT count(*) AS n FROM generations ANTI JOIN (SELECT subject_id AS generation_id FROM measurements "
            "WHERE metric = 'judge') USING (generation_id) SEMI JOIN (FROM scores WHERE split = 'test') "
            "USING (intervention_id)"
        ) == [{"n": 0}]  # only what refined a dose is not asked about
        ran(tmp_path, asked)
        assert len(server.asked) == first  # nothing is asked twice
        ran(tmp_path, asked | {"prompt": "Rate the capitals, 0 to 10.\nAnswer: {text}"})
        assert len(server.asked) == 2 * first
    rows = store.rows("SELECT * FROM measurements WHERE metric = 'judge' AND split = 'test'")
    for row in rows:
        assert f"{10 * row['value']:.0f}/10" in row["reply"]
        assert (row["scored_by"], row["scorer_version"]) == ("judge", "judge-2026-11")
    prompts = {row["prompt"] for row in store.rows("SELECT prompt FROM scorers WHERE metric = 'judge'")}
    assert prompts == {OWN, "Rate the capitals, 0 to 10.\nAnswer: {text}"}
    board = store.rows("SELECT control, alpha, judge FROM leaderboard WHERE split = 'test'")
    steered, base = (next(r["judge"] for r in board if r["control"] == c and r["alpha"] >= 0) for c in (None, "none"))
    assert steered > base


def test_a_judge_that_fails_midway_is_asked_the_rest_alone(tmp_path: Path) -> None:
    with chat_server(lambda body, n: capitals(body, n) if n != 3 else (403, {}, "no more")) as server:
        asked = {"model": "judge", "endpoint": server.url, "prompt": OWN, "at_once": 1}
        with pytest.raises(EndpointError, match="answers 403: no more"):
            ran(tmp_path, asked)
        failed = len(server.asked)
        ran(tmp_path, asked)
    questions = [body["messages"][0]["content"] for _, _, body in server.asked]
    assert failed in (4, 5)  # the next one may be under way when the answer comes
    assert questions.count(questions[0]) <= 2  # once for validation, once for test


def test_a_local_model_judges_and_what_it_says_may_be_no_rating(
    tiny_folder: Path, tiny: Model, concept: Concept, caplog: pytest.LogCaptureFixture
) -> None:
    judge = Judge(JudgeSpec(model=str(tiny_folder), prompt=OWN, max_tokens=4), concept)
    texts = [text(tiny, concept, answer) for answer in ("LOUD!", "quiet.")]
    work = Work()
    ratings = list(judge.ratings(texts, work))
    assert [rating.by.version for rating in ratings if rating.by] == [tiny.identity.model_id] * 2
    assert all(np.isnan(rating.value) and rating.reply for rating in ratings)
    assert "gave no rating for 2 of 2 texts" in caplog.text
    assert work.forward_passes > 0
    assert [r.reply for r in ratings] == [r.reply for r in judge.ratings(texts, Work())]


def test_the_explorers_own_server_can_judge(tiny_folder: Path, tiny: Model, concept: Concept, store: Store) -> None:
    with served(store, models=[str(tiny_folder)]) as address:
        judge = Judge(JudgeSpec(model=str(tiny_folder), endpoint=f"{address}/v1", prompt=OWN, max_tokens=4), concept)
        here = Judge(JudgeSpec(model=str(tiny_folder), prompt=OWN, max_tokens=4), concept)
        texts = [text(tiny, concept, answer) for answer in ("LOUD!", "quiet.")]
        there = list(judge.ratings(texts, Work()))
        assert [r.reply for r in there] == [r.reply for r in here.ratings(texts, Work())]
        assert all(r.by and r.by.version == f"{tiny_folder} {tiny.identity.model_id}" for r in there)


def test_a_judge_sees_the_question_the_answer_and_the_concept_alone(concept: Concept) -> None:
    asked = {"model": "m", "endpoint": "http://127.0.0.1:9/v1"}
    judge = Judge(JudgeSpec(**asked, prompt="{concept}|{prompt}|{text}"), concept)
    assert judge.question("Hello", " {LOUD} ") == "loud|Hello|{LOUD}"
    assert judge.key != Judge(JudgeSpec(**asked, prompt="{text}"), concept).key
    assert judge.key == Judge(JudgeSpec(**asked, prompt="{concept}|{prompt}|{text}", retries=9), concept).key


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("7", 7), (" 10.", 10), ("Rating: 7/10", 7), ("**3**", 3), ("I give it 6.5 out of 10", 6.5), ("10 / 10", 10),
        ("0", 0), ("", None), ("formal", None), ("11", None), ("-3", None), ("between 6 and 8", None), ("70%", None),
        ("On a scale of 0 to 10, I say 8", None), ("8. Yes, 8 it is", 8), ("v2", None),
        ("From 0 to 10 it is **Rating: [[4]]**", 4), ("[[4]] or [[5]]", None),
    ],
)  # fmt: skip
def test_a_rating_is_the_one_number_in_a_reply(reply: str, rating: float | None) -> None:
    assert rating_in(reply) == rating


@pytest.mark.parametrize(
    ("scores", "said_so"),
    [
        ("{metrics: [propensity, judge]}", "needs a judge"),
        ("{metrics: [propensity, judge_fluency]}", "judge_fluency needs a judge"),
        ("{metrics: [propensity, judge], judge: {model: m}}", "it gives judge_concept, judge_instruction"),
        ("{judge: {model: m, rubric: {fluency: Well}}}", "judge.rubric.fluency.*must hold {text}"),
        ("{judge: {model: m, calibration: maybe}}", "judge.calibration"),
        ("{judge: {}}", "judge.model"),
        ("{judge: {model: m, endpoint: localhost}}", "judge.endpoint"),
        ("{judge: {model: m, prompt: 'Rate it'}}", "must hold {text}"),
        ("{judge: {model: m, prompt: '{text} {answer}'}}", "must hold {text}"),
        ("{judge: {model: m, prompt: '{text} {'}}", "not a template"),
        ("{judge: {model: m, key_from: sk-123}}", "judge.key_from"),
        *(
            (f"{{judge: {{model: m, endpoint: http://h/v1, key_from: {name}}}}}", f"judge.key_from: '{name}' is no env")
            for name in (
                "PREFECT_API_AUTH_STRING",
                "PREFECT_API_KEY",
                "STEERFLOW_TOKEN",
                "AWS_SECRET_ACCESS_KEY",
                "HOME",
                "DATABASE_URL",
                "openai_api_key",
                "_KEY",
                "MY_KEYS",
                "MY_TOKEN_PATH",
            )
        ),
        ("{judge: {modle: m}}", "did you mean 'model'"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused(tmp_path: Path, scores: str, said_so: str) -> None:
    (tmp_path / "spec.yaml").write_text(f"models: [a]\nconcepts: [b]\nscores: {scores}\n")
    with pytest.raises(SpecError, match=said_so):
        load_spec(tmp_path / "spec.yaml")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "MY_2ND_KEY"])
def test_a_key_comes_from_a_variable_that_is_named_like_one(name: str) -> None:
    assert JudgeSpec(model="m", key_from=name).key_from == name


def test_no_endpoint_is_made_that_sends_another_variable() -> None:
    with pytest.raises(SettingError, match="'PREFECT_API_AUTH_STRING' is no environment variable that may be sent"):
        Endpoint("http://localhost/v1", "m", key_from="PREFECT_API_AUTH_STRING")
