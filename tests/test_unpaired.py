"""Texts without partners, more of one side than of the other: splits, methods, controls, qualities, training, runs."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

import steering_core as steer
from steering_core.authoring.lint.check import lint
from steering_core.authoring.lint.finding import Finding
from steering_core.authoring.writing import write_concept
from steering_core.concepts import SIDES, Concept, load_concept
from steering_core.engine.gradients import GivenAnswer
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import ConceptError, VectorError
from steering_core.foundation.validation import checked
from steering_core.models import Model
from steering_core.monitors.gates import fit_gates
from steering_core.pipeline.stability import half_of
from steering_core.pipeline.stages import registered
from steering_core.scores.probe import probe_for
from steering_core.statistics.separation import separation
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, joined
from steering_core.vectors.controls import shuffled_direction
from steering_core.vectors.methods import METHODS, TRAINED, UNPAIRED, derived_direction
from steering_core.vectors.permuted import permuted_direction
from steering_core.vectors.stability import SideSizes, fit_of, influences, split_half
from steering_core.vectors.training.pairs import AnswerSides, answer_pairs

WIDTH = 12


def lone(n: int, m: int, **more: object) -> Concept:
    texts = {"positive": [f"good {i}" for i in range(n)], "negative": [f"bad {i}" for i in range(m)]}
    return checked(Concept, {"name": "lone", "unpaired": texts, **more}, "test", ConceptError)


def planted(n: int, m: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) and (m, D) on either side of 0 along the first axis."""
    random, axis = np.random.default_rng(0), np.eye(WIDTH)[0]
    return random.normal(0, noise, (n, WIDTH)) + axis, random.normal(0, noise, (m, WIDTH)) - axis


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# -- concepts --------------------------------------------------------------------------------------------------------


def test_either_side_is_split_by_itself_and_a_prompt_stays_whole() -> None:
    counts = Counter((text.side, text.split) for text in lone(50, 20).texts)
    assert counts == {
        ("positive", "train"): 30,
        ("positive", "validation"): 10,
        ("positive", "test"): 10,
        ("negative", "train"): 12,
        ("negative", "validation"): 4,
        ("negative", "test"): 4,
    }
    shared = {side: [{"prompt": f"{i}?", "text": f"{side} {i}"} for i in range(40)] for side in SIDES}
    concept = checked(Concept, {"name": "shared", "unpaired": shared}, "test", ConceptError)
    splits = {(text.side, text.prompt): text.split for text in concept.texts}
    assert concept.chat
    assert all(splits["positive", f"{i}?"] == splits["negative", f"{i}?"] for i in range(40))
    assert len(set(splits.values())) == 3


def test_it_survives_being_written_and_takes_no_pairs(tmp_path: Path) -> None:
    concept = lone(3, 2)
    write_concept(concept, tmp_path / "lone.yaml")
    assert load_concept(str(tmp_path / "lone.yaml")).concept_id == concept.concept_id
    given = [{"positive": "a", "negative": "b"}]
    assert "unpaired" not in Concept(name="paired", pairs=given).model_dump()
    for more, said in (({"pairs": given}, "has both"), ({"unpaired": None}, "has neither")):
        with pytest.raises(ConceptError, match=said):
            lone(3, 2, **more)
    with pytest.raises(ConceptError, match=r"unpaired\.positive.*text 3 repeats text 1: leave"):
        checked(Concept, {"name": "a", "unpaired": {"positive": ["a", "b", "a"], "negative": ["c"]}}, "x", ConceptError)
    with pytest.raises(ConceptError, match="must be a text: put it in quotes"):
        checked(Concept, {"name": "a", "unpaired": {"positive": [True], "negative": ["c"]}}, "x", ConceptError)


# -- methods ---------------------------------------------------------------------------------------------------------


def test_methods_that_take_unpaired_texts_agree_with_scikit_learn() -> None:
    positive, negative = planted(40, 15)
    rows, labels = np.concatenate([positive, negative]), np.repeat([1, 0], [40, 15])
    expected = {
        "mean_difference": positive.mean(0) - negative.mean(0),
        "logistic": LogisticRegression(tol=1e-10, max_iter=10_000).fit(rows, labels).coef_[0],
        "lda": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(rows, labels).coef_[0],
    }
    found = {name: derived_direction(name, positive, negative, paired=False) for name in expected}
    np.testing.assert_allclose(found["mean_difference"], expected["mean_difference"])
    assert cosine(found["logistic"], expected["logistic"]) > 1 - 1e-6
    assert cosine(found["lda"], expected["lda"]) > 0.99  # scikit-learn shrinks the covariance of each side by itself


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_takes_them_or_says_that_it_needs_pairs(name: str) -> None:
    positive, negative = planted(40, 15)
    if name in UNPAIRED:
        assert cosine(derived_direction(name, positive, negative, paired=False), np.eye(WIDTH)[0]) > 0.9
        return
    for m in (15, 40):  # of as many texts, too, those at one place are no pair
        with pytest.raises(VectorError, match=rf"{name} needs pairs, and there are 40 positive and {m} negative texts"):
            derived_direction(name, positive, planted(40, m)[1], paired=False)


# -- controls --------------------------------------------------------------------------------------------------------


def test_labels_are_permuted_across_all_texts() -> None:
    positive, negative = np.ones((40, WIDTH)), -np.ones((10, WIDTH))
    contrast, own = Contrast(0, positive, negative, 1.0, paired=False), positive.mean(0) - negative.mean(0)
    seen: list[int] = []

    def counted(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        assert (len(one), len(other)) == (40, 10)
        seen.append(int((one[:, 0] < 0).sum()))  # negative texts among the positive ones
        return np.eye(WIDTH)[1]

    METHODS["counted"] = counted
    try:
        for seed in range(300):
            permuted_direction("counted", contrast, own, seed)
        drawn = np.array(seen)
        seen.clear()
        shuffled_direction("counted", positive, negative, own, 0)
    finally:
        del METHODS["counted"]
    assert drawn.mean() == pytest.approx(8, abs=0.3)  # of 10 negative texts four in five, as hypergeometric draws are
    assert drawn.std() == pytest.approx(np.sqrt(10 * 0.8 * 0.2 * 40 / 49), rel=0.2)
    assert seen == [8]  # a shuffled control has exactly its share


def test_permuted_labels_leave_no_concept_on_average() -> None:
    positive, negative = planted(40, 15)
    contrast, own = Contrast(0, positive, negative, 1.0, paired=False), positive.mean(0) - negative.mean(0)
    drawn = [permuted_direction("mean_difference", contrast, own, seed) for seed in range(100)]
    assert abs(np.mean([cosine(one, own) for one in drawn])) < 0.2
    assert [np.linalg.norm(one) for one in drawn] == pytest.approx([np.linalg.norm(own)] * 100)
    shuffled = [shuffled_direction("mean_difference", positive, negative, own, seed) for seed in range(40)]
    assert np.abs([cosine(one, own) for one in shuffled]).mean() < 0.35


# -- qualities -------------------------------------------------------------------------------------------------------


def test_intervals_redraw_either_side_by_itself() -> None:
    positive, negative = planted(200, 8, noise=1.0)
    found = separation(positive[:, 0], negative[:, 0], 2000, 0, paired=False)
    random = np.random.default_rng(1)
    values = [
        float((random.choice(positive[:, 0], 200)[:, None] > random.choice(negative[:, 0], 8)).mean())
        for _ in range(2000)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    assert (found["auc"].low, found["auc"].high) == pytest.approx((low, high), abs=0.03)
    assert found["auc"].n == 8


def test_stability_leaves_out_texts_of_either_side() -> None:
    positive, negative = planted(9, 5, noise=0.1)
    negative[3] += 20 * np.eye(WIDTH)[5]
    fit, rows = fit_of("mean_difference", positive, negative), SideSizes(9, 5, paired=False)
    found = influences(fit, fit(rows.all), rows)
    assert (len(found), int(np.argmax(found))) == (14, 9 + 3)
    half = split_half(fit, rows, 20, np.random.default_rng(0))
    assert half is not None
    assert half.n == 5
    assert split_half(fit, SideSizes(9, 1, paired=False), 20, np.random.default_rng(0)) is None


def test_sides_keep_what_belongs_together() -> None:
    train, test = (
        PromptSides(("a", "b"), ("c",), ("1", "2", "3"), False),
        PromptSides(("d",), ("e",), ("4", "5"), False),
    )
    both = joined([train, test])
    assert (both.positive, both.negative, both.row_ids) == (("a", "b", "d"), ("c", "e"), ("1", "2", "4", "3", "5"))
    assert (both.n_pairs, both.paired) == (0, False)
    paired, apart = (
        PromptSides(("a", "b"), ("c", "d"), ("1", "2"), True),
        PromptSides(("a", "b"), ("c", "d"), (), False),
    )
    assert paired.key != apart.key
    assert joined([paired, PromptSides((), (), (), True)]).rows == [("a", "c"), ("b", "d")]


# -- training --------------------------------------------------------------------------------------------------------


def test_answers_are_put_together_evenly_and_labels_go_across_sides() -> None:
    answers = tuple(GivenAnswer((1, i), 1) for i in range(10))
    given = AnswerSides(answers[:7], answers[7:])
    pairs = answer_pairs(given)
    assert sorted(pairs[:, 0]) == list(range(7))
    assert sorted(Counter(pairs[:, 1].tolist()).values()) == [2, 2, 3]
    shuffled = answer_pairs(given, seed=4)
    one, other = ({*column.tolist()} for column in shuffled.T)
    assert (len(one), len(other), one & other) == (7, 3, set())
    assert len([row for row in one if row >= 7]) == 2 == len([row for row in other if row < 7])
    assert not len(answer_pairs(AnswerSides(answers[:2], ())))


def test_the_gradient_is_the_difference_of_the_sides_means(toy_model: Model) -> None:
    positive, negative = ["AB", "CDE", "FG", "HIJK"], ["lm", "no"]  # two of each: the pairs weigh all texts alike
    found = steer.derive_vector(toy_model, steer.unpaired(positive, negative), 1, "gradient")
    pairs = [(a, b) for a in positive for b in negative]
    expected = steer.derive_vector(toy_model, pairs, 1, "gradient")
    assert cosine(found.direction, expected.direction) > 0.999
    assert found.lineage["texts"] == {"positive": positive, "negative": negative}
    assert found.lineage["unpaired"] == {"positive": 4, "negative": 2}
    with pytest.raises(VectorError, match="one_shot needs pairs"):
        steer.derive_vector(toy_model, steer.unpaired(positive, negative), 1, "one_shot")
    trained = {"gradient", "natural_gradient", "preference", "joint_preference"}
    assert {name for name in TRAINED if name in UNPAIRED} == trained


def test_lists_of_different_lengths_are_a_contrast(toy_model: Model) -> None:
    found = steer.contrast(toy_model, ["AB", "CD", "EF"], ["gh", "ij"], 1)
    one, other = (
        np.mean([steer.contrast(toy_model, text, "?", 1).direction for text in side], axis=0)
        for side in (["AB", "CD", "EF"], ["gh", "ij"])
    )
    np.testing.assert_allclose(found.direction, one - other, atol=1e-5)
    assert found.n_pairs == 0
    assert repr(found).endswith(", 3 and 2 unpaired texts>")
    assert repr(steer.contrast(toy_model, "AB", "gh", 1)).endswith(", 1 pair>")


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_recommends_from_unpaired_texts(tmp_path: Path, toy_model: Model) -> None:
    words = ("AB", "CDE", "FG", "HIJK", "LM", "NO", "PQR", "ST", "UVW", "XY")
    texts = {
        "positive": [{"prompt": f"{i}?", "text": words[i % 10]} for i in range(30)],
        "negative": [{"prompt": f"{i}!", "text": words[i % 10].lower()} for i in range(20)],
    }
    items = [{"prompt": f"{i}.", "matching": words[i % 10], "not_matching": words[i % 10].lower()} for i in range(40)]
    file = tmp_path / "lone.yaml"
    file.write_text(json.dumps({"name": "lone", "unpaired": texts, "items": items, "chat": False, "prompts": ["Q?"]}))
    spec = steer.Spec.model_validate(
        {
            "models": [str(toy_model.folder)],
            "concepts": [str(file)],
            "vectors": {"methods": ["mean_difference", "logistic", "preference"], "controls": 1, "quality_draws": 10},
            "generations": {"layers": [1], "prompts": 1, "samples": 1, "max_tokens": 4},
            "scores": {"neutral": 2, "answers": 2, "metrics": ["propensity", "kl", "damage"]},
        }
    )
    report = steer.run(spec, tmp_path / "store")
    assert report["recommendations"], report
    db = steer.connect(tmp_path / "store")
    rows = db.sql("SELECT method, n_pairs, lineage FROM vectors WHERE control IS NULL").fetchall()
    assert {(row[0], row[1]) for row in rows} == {("mean_difference", 0), ("logistic", 0), ("preference", 0)}
    assert all(json.loads(row[2])["unpaired"] == {"positive": 18, "negative": 12} for row in rows)
    ((n_permuted,),) = db.sql("SELECT count(*) FROM raw.vectors WHERE control = 'permuted'").fetchall()
    (chosen,) = report["recommendations"]
    assert n_permuted == (0 if chosen["method"] == "preference" else 2 * 19)  # of both methods that read activations
    quality = "SELECT auc_test FROM vector_quality WHERE method = 'mean_difference' AND control IS NULL"
    ((auc,),) = db.sql(quality).fetchall()
    assert auc > 0.9
    refused = spec.model_copy(update={"vectors": spec.vectors.model_copy(update={"methods": ("pca_uncentred",)})})
    with pytest.raises(Exception, match="pca_uncentred needs pairs, and lone has 30 positive and 20 negative texts"):
        steer.run(refused, tmp_path / "store")


def test_probes_and_gates_read_either_side(toy_model: Model, store: Store) -> None:
    capitals, small = ([f"{a}{b}" for a in letters for b in letters] for letters in ("ABCDEF", "abcde"))
    given = {"name": "lone", "unpaired": {"positive": capitals, "negative": small}}
    concept = checked(Concept, given, "test", ConceptError)
    probe = probe_for(toy_model, store, concept, [1])
    assert probe is not None
    assert probe.trained.auc > 0.99
    registered(store, toy_model)
    vector = steer.contrast(toy_model, capitals, small, 1)
    for gate in fit_gates(toy_model, store, vector, concept, Work()):
        assert (gate.hit_rate, gate.false_alarm_rate) == (1.0, 0.0)
        assert (gate.n_fitted, gate.n_held_out) == (5, 5)  # of the smaller side


# -- lint ------------------------------------------------------------------------------------------------------------


def found_in(unpaired: dict[str, list[str]], check: str) -> list[Finding]:
    concept = checked(Concept, {"name": "lone", "unpaired": unpaired}, "test", ConceptError)
    return [finding for finding in lint(concept) if finding.check == check]


def test_lint_compares_the_sides_and_names_their_rows() -> None:
    good = [f"The {word} was wonderful, {word}!" for word in "abcdefghijklmnopqrstuvwxyz"]
    bad = [f"A {word} went badly" for word in "abcdefghijklmnopqrst"]
    (giveaway, *_) = found_in({"positive": good, "negative": bad}, "giveaway")
    assert "on the positive side of 20 texts and on the other of 0" in giveaway.message
    assert all(row.startswith("positive ") and " and negative " in row for row in giveaway.rows)
    (few,) = [f for f in found_in({"positive": good, "negative": bad}, "few") if "texts" in f.message]
    assert few.message == "20 texts on the smaller side, of which 12 train"
    (same,) = found_in({"positive": ["It went badly.", *good], "negative": [*bad, "it went badly"]}, "same")
    assert same.rows == ("positive 1", "negative 21")
    (broken,) = found_in({"positive": [*good, "caf\ufffd au lait"], "negative": bad}, "encoding")
    assert broken.rows == ("positive 27",)


def test_half_of_the_texts_is_half_of_either_side() -> None:
    concept = lone(50, 20)
    halves = [half_of(concept, i) for i in (0, 1)]
    kept = [{t.row_id for t in half.texts if t.split == "train"} for half in halves]
    assert not kept[0] & kept[1]
    assert kept[0] | kept[1] == {t.row_id for t in concept.texts if t.split == "train"}
    assert [Counter(t.side for t in half.texts if t.split == "train") for half in halves] == [
        {"positive": 15, "negative": 6}
    ] * 2
    tests = [{t.row_id for t in c.texts if t.split == "test"} for c in (concept, *halves)]
    assert tests[0] == tests[1] == tests[2]
