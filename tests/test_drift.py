"""KL along steered texts is the closed form on the toy, and what plain passes give with a system prompt."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steering_core.candidates.cell import Cell, prompted, unsteered
from steering_core.candidates.generations import generate
from steering_core.concepts import Concept
from steering_core.concepts.concept import Sides
from steering_core.engine.teacher_forcing import Scored, log_probabilities, next_token_distributions
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.prompts import open_prompt
from steering_core.scores.drift import Drift
from steering_core.scores.measure import measure_texts
from steering_core.scores.scorers import ScoredText
from steering_core.scores.summary import summarise
from steering_core.scores.texts import text_setup
from steering_core.spec import GenerationsSpec, ScoresSpec
from steering_core.store import Store
from tests import toy
from tests.capitals import CONCEPT, cells, ran
from tests.steered import ANSWERS, PROMPT, interventions, plain_log_softmax

TOKENS = tuple(toy.byte_tokenizer().encode("Nine! so"))


def written(model: Model, cell: Cell, tokens: tuple[int, ...] = TOKENS) -> ScoredText:
    return ScoredText(
        open_prompt(model, CONCEPT, "4 + 5 ="), tokens, "", "length", (cell.intervention_id, cell.control)
    )


def closed_form(before: int, tokens: tuple[int, ...], along_v: float) -> list[float]:
    """KL(steered || untouched) of the toy at each token, from logits on paper."""
    found = []
    for last, _ in itertools.pairwise((before, *tokens)):
        steered, plain = (toy.log_softmax(toy.logits_after(last, along)) for along in (along_v, 0.0))
        found.append(float((np.exp(steered) * (steered - plain)).sum()))
    return found


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("n", [1, 5, 64])
def test_it_is_the_closed_form_at_each_of_the_first_n_tokens(toy_model: Model, layer: int, n: int) -> None:
    grid = cells(toy_model, layer, (0.5, -2.0, 6.0))
    drift, texts = Drift(toy_model, CONCEPT, grid, n), [written(toy_model, cell) for cell in grid]
    before, rows = texts[0].prompt.tokens[-1], {}
    for found, text, cell in zip(drift.of(texts, Work()), texts, grid, strict=True):
        rows[text] = closed_form(before, TOKENS[:n], cell.alpha)
        assert found == pytest.approx(rows[text], abs=1e-5)
    mean, high = (list(scorer.ratings(texts, Work())) for scorer in drift.scorers().values())
    assert [r.value for r in mean] == pytest.approx([np.mean(row) for row in rows.values()], abs=1e-5)
    assert [r.value for r in high] == pytest.approx([np.percentile(row, 95) for row in rows.values()], abs=1e-5)


def test_it_is_not_the_divergence_the_other_way_round(toy_model: Model) -> None:
    _, cell = cells(toy_model, 1, (6.0,))
    (found,) = Drift(toy_model, CONCEPT, [cell], 1).of([written(toy_model, cell)], Work())
    steered, plain = (
        toy.log_softmax(toy.logits_after(written(toy_model, cell).prompt.tokens[-1], a)) for a in (6.0, 0.0)
    )
    other = float((np.exp(plain) * (plain - steered)).sum())
    assert abs(other - found[0]) > 0.1


def test_nothing_is_computed_for_what_is_unsteered_empty_or_known(toy_model: Model) -> None:
    none, cell = cells(toy_model, 1, (6.0,))
    drift, work = Drift(toy_model, CONCEPT, [none, cell], 4), Work()
    plain, empty = drift.of([written(toy_model, none), written(toy_model, cell, ())], work)
    assert (plain.tolist(), empty.tolist(), work.tokens) == ([0.0] * 4, [], 0)
    assert all(np.isnan(next(s.ratings([written(toy_model, cell, ())], work)).value) for s in drift.scorers().values())
    for scorer in drift.scorers().values():
        next(scorer.ratings([written(toy_model, cell)], work))
        passes = work.forward_passes
        assert passes > 0
    next(drift.scorers()["generated_kl"].ratings([written(toy_model, cell)], work))
    assert work.forward_passes == passes
    keys = {scorer.key for d in (drift, replace(drift, n=5)) for scorer in d.scorers().values()}
    assert len(keys) == 4


def test_a_diverged_text_is_nan_and_its_neighbour_is_not(toy_model: Model) -> None:
    broken, kept = cells(toy_model, 1, (3e38, 2.0))[1:]
    found = Drift(toy_model, CONCEPT, [broken, kept], 4).of([written(toy_model, c) for c in (broken, kept)], Work())
    assert np.isnan(found[0]).any()
    assert np.isfinite(found[1]).all()


def test_distributions_are_plain_passes_and_hold_the_log_probabilities(tiny: Model) -> None:
    sequences = [Scored(PROMPT + a, len(PROMPT), i) for i in interventions(tiny) for a in ANSWERS]
    found = next_token_distributions(tiny, sequences, Work())
    for rows, sequence, scores in zip(found, sequences, log_probabilities(tiny, sequences, Work()), strict=True):
        full = plain_log_softmax(tiny, sequence.tokens, sequence.start, sequence.intervention)
        np.testing.assert_allclose(rows, full[sequence.start - 1 : -1], atol=2e-4)
        np.testing.assert_allclose(rows[np.arange(len(rows)), sequence.answer], scores, atol=1e-5)


def test_a_system_prompt_drifts_as_well(tiny: Model, concept: Concept) -> None:
    concept = concept.model_copy(update={"chat": True, "instructions": Sides(positive="Shout.", negative="Whisper.")})
    (cell,) = prompted(tiny.identity, concept)
    asked, plain = (open_prompt(tiny, concept, "Hello", system) for system in (cell.system, None))
    answer = (30, 31, 32)
    text = ScoredText(plain, answer, "", "length", (cell.intervention_id, cell.control))
    (found,) = Drift(tiny, concept, [unsteered(tiny.identity, concept), cell], 8).of([text], Work())
    p, q = (
        plain_log_softmax(tiny, (*prompt.tokens, *answer), len(prompt.tokens), Intervention())[
            len(prompt.tokens) - 1 : -1
        ]
        for prompt in (asked, plain)
    )
    assert asked.tokens != plain.tokens
    assert found == pytest.approx((np.exp(p) * (p - q)).sum(axis=-1), abs=2e-4)
    assert found.min() > 0.01


def test_a_run_measures_it_on_test_alone(tmp_path: Path) -> None:
    rows = ran(tmp_path).rows("SELECT split, control, generated_kl, generated_kl_p95 FROM leaderboard")
    of = {row["control"]: row for row in rows if row["split"] == "test"}
    assert of["none"]["generated_kl"] == of["none"]["generated_kl_p95"] == 0
    assert 0 < of[None]["generated_kl"] <= of[None]["generated_kl_p95"]
    assert of["mirrored"]["generated_kl"] > 0
    assert all(row["generated_kl"] is None for row in rows if row["split"] == "validation")


def test_a_stored_text_is_measured_under_the_cell_that_wrote_it(toy_model: Model, tmp_path: Path) -> None:
    grid, store = cells(toy_model, 1, (0.5, 3.0)), Store(tmp_path / "store")
    wanted = ScoresSpec(metrics=("propensity", "generated_kl", "generated_kl_p95"), kl_tokens=3)
    texts = generate(toy_model, store, CONCEPT, grid, GenerationsSpec(prompts=2, samples=2, max_tokens=6), "test")
    setup = text_setup(toy_model, store, CONCEPT, wanted, grid)
    did = measure_texts(setup, store, texts.ids, "test", wanted.measured)
    rows = store.rows(
        "SELECT m.metric, m.value, g.tokens, g.prompt, coalesce(g.alpha, 0) AS alpha FROM raw.measurements m "
        "JOIN raw.generations g ON g.generation_id = m.subject_id"
    )
    assert len(rows) == 2 * 2 * 2 * 3
    for row in rows:
        before = open_prompt(toy_model, CONCEPT, row["prompt"]).tokens[-1]
        expected = closed_form(before, tuple(row["tokens"][:3]), row["alpha"])
        of = np.mean(expected) if row["metric"] == "generated_kl" else np.percentile(expected, 95)
        assert row["value"] == pytest.approx(of, abs=1e-5)
    scores = summarise(store, grid, did.ids, "test")
    means = [scores[cell.intervention_id]["generated_kl"]["value"] for cell in grid]
    assert 0 == means[0] < means[1] < means[2]
