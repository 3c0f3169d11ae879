"""Choices and verdicts from scores whose truth is given."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steering_core.candidates.cell import NONE, PROMPT, WITH_PROMPT, Cell, Trial, with_prompt
from steering_core.concepts import Item
from steering_core.evaluation.bounds import TOLERATED, Bounds
from steering_core.evaluation.chance import Chance
from steering_core.evaluation.choice import Choice, Rated, choose, rated
from steering_core.evaluation.curve import Curve
from steering_core.evaluation.damage import USUAL, Uncertain
from steering_core.evaluation.forms import Forms
from steering_core.evaluation.recommendations import Evidence, verdict_of
from steering_core.evaluation.verdicts import CHANCE, TOO_FEW, WEAK, WORKS
from steering_core.vectors.vector import Vector

BOUNDS = Bounds(1.5, 1.0)
MODEL, ABOUT = "m" * 20, "c" * 20
NO_FORMS = Forms()


def cell(layer: int, dose: float, *more: int) -> Cell:
    """A unit direction at each layer, together of that dose."""
    vectors = [
        Vector(f"{at:020x}", MODEL, ABOUT, "planted", at, 1.0, direction=np.eye(8, dtype=np.float32)[at % 8])
        for at in (layer, *more)
    ]
    return Cell.adding(MODEL, ABOUT, "generation", vectors, [dose / len(vectors)] * len(vectors))


def measured(effects: float, damage: float | None = 0.15, ratios: float | None = None, n: int = 12) -> dict[str, Any]:
    """A candidate's values on validation, with a little noise over its items."""
    noise = np.random.default_rng(0).normal(0, 0.05, n)
    values: dict[str, Any] = {"odd_effect": {f"i{k:02}": effects + float(x) for k, x in enumerate(noise)}}
    if damage is not None:
        values["damage"] = {f"a{k}": damage for k in range(4)}
    if ratios is not None:
        values["perplexity_ratio"] = {f"p{k}": ratios for k in range(8)}
    return values


def test_the_largest_sure_effect_within_the_bounds_is_chosen() -> None:
    cells = [cell(1, 0.2), cell(2, 0.2), cell(3, 0.2)]
    values = [measured(0.5), measured(0.9, damage=3.0), measured(0.7)]
    ratings = rated(cells, values, BOUNDS, {}, adjust=False)
    assert [one.excess <= 1 for one in ratings] == [True, False, True]
    assert choose(ratings)[0].cell is cells[2]
    assert choose(ratings[1:2])[0].cell is cells[1]  # none within: the least damaging


def test_among_candidates_that_are_as_good_the_simplest_is_chosen_and_the_others_are_named() -> None:
    cells = [cell(1, 0.3, 2, 3), cell(2, 0.3), cell(5, 0.3)]
    values = [measured(0.71), measured(0.70), measured(0.2)]
    values[0]["odd_effect"] = {k: v + (0.2 if k < "i06" else -0.17) for k, v in values[0]["odd_effect"].items()}
    chosen, ties = choose(rated(cells, values, BOUNDS, {}, adjust=False))
    assert chosen.cell is cells[1]
    assert [one.cell for one in ties] == [cells[0]]


def test_vectors_of_one_joint_fit_are_as_simple_as_one_vector() -> None:
    joint = replace(
        cell(1, 0.3, 2, 3), vectors=tuple(replace(v, method="joint_preference") for v in cell(1, 0.3, 2, 3).vectors)
    )
    cells = [joint, cell(2, 0.3)]
    values = [measured(0.72), measured(0.70)]
    values[1]["odd_effect"] = {k: v + (0.2 if k < "i06" else -0.17) for k, v in values[1]["odd_effect"].items()}
    chosen, ties = choose(rated(cells, values, BOUNDS, {}, adjust=False))
    assert chosen.cell is joint
    assert [one.cell for one in ties] == [cells[1]]


def test_a_dose_whose_texts_are_too_perplexing_is_lowered_along_the_curve() -> None:
    curve = Curve((0.2, 0.4), (0.15, 0.6))
    one, values = cell(1, 0.2), measured(0.6, ratios=0.6)
    (found,) = rated([one], [values], BOUNDS, {one.direction: curve}, adjust=True)
    assert 0.1 < (found.cell.dose or 0) < 0.19
    assert found.excess <= TOLERATED
    assert np.mean(list(found.effects.values())) == pytest.approx(0.6 * (found.cell.dose or 0) / 0.2, rel=0.05)
    (kept,) = rated([one], [measured(0.6, ratios=0.22)], BOUNDS, {one.direction: curve}, adjust=True)
    assert kept.cell is one  # a dose that was tried stays
    (plain,) = rated([one], [measured(0.6, ratios=0.0)], BOUNDS, {one.direction: curve}, adjust=True)
    assert plain.cell is one  # and does not grow because a few texts were plain


def test_a_cell_that_diverged_is_never_within_the_bounds() -> None:
    broken = measured(0.9)
    broken["odd_effect"]["i00"] = math.nan
    (one,) = rated([cell(1, 0.2)], [broken], BOUNDS, {}, adjust=False)
    assert one.excess == math.inf


# -- verdicts ----------------------------------------------------------------------------------------------------------


def score(value: float | None, low: float | None = None, high: float | None = None, n: int = 12) -> dict[str, Any]:
    """A score's row."""
    return {"score_id": "s", "value": value, "ci_low": low, "ci_high": high, "n": n, "n_missing": 0}


def evidence(chance: Chance | None, forms: Forms = NO_FORMS, slope: Uncertain = USUAL, **scores: Any) -> Evidence:
    """What a verdict rests on, for a candidate with these scores over those of one that works."""
    base, chosen = Cell(MODEL, ABOUT, control=NONE), cell(1, 0.2)
    mine = {"effect": score(0.5, 0.3, 0.7), "odd_effect": score(0.5, 0.3, 0.7), "kl": score(0.1, 0.0, 0.2)}
    mine |= {"damage": score(0.15, 0.1, 0.2), "perplexity_ratio": score(1.25, 1.1, 1.4, 8), "probe": score(0.7)}
    mine |= scores
    trial = Trial(chosen, [base, chosen])
    board = {base.intervention_id: {"probe": score(0.5)}, chosen.intervention_id: mine}
    return Evidence(Choice(trial, slope), board, chance, forms, BOUNDS)


GOOD = Chance.of(0.5, [0.1, -0.1] * 19 + [-0.5])
BY_CHANCE = Chance.of(0.5, [0.6, -0.6] * 3 + [0.1, -0.1] * 16 + [-0.5])
FEW = Chance.of_few(0.5, [0.385, 0.332, 0.238, -0.238, -0.332, -0.385, 0.1, -0.1, 0.3, -0.3], 5)


@pytest.mark.parametrize(
    ("given", "verdict", "why"),
    [
        (evidence(GOOD), WORKS, "39 searches among permuted labels find at most"),
        (evidence(BY_CHANCE), CHANCE, "permuted labels find as much"),
        (evidence(FEW), CHANCE, "10 searches among permuted labels find at most +0.385 nats: so few"),
        (evidence(None), WEAK, "nothing was measured"),
        (evidence(Chance.of(0.5, [0.1] * 9)), TOO_FEW, "null effects"),
        (evidence(GOOD, odd_effect=score(0.5, 0.3, 0.7, n=7)), TOO_FEW, "add 1 item to"),
        (evidence(GOOD, odd_effect=score(-0.5, -0.7, -0.3)), CHANCE, "the wanted direction"),
        (evidence(GOOD, odd_effect=score(0.5, -0.1, 1.1)), CHANCE, "not surely above 0"),
        (evidence(GOOD, perplexity_ratio=score(2.4, 2.2, 2.6, 8)), WEAK, "times as perplexing"),
        (evidence(GOOD, kl=score(1.2, 1.0, 1.4)), WEAK, "neutral next tokens"),
        (evidence(GOOD, probe=score(0.4)), WEAK, "show less of the concept"),
        (evidence(GOOD, diverged=score(0.5) | {"n_missing": 2}), WEAK, "nothing finite"),
        (evidence(GOOD, Forms({"yes": [3.0, 3.1, 3.3], "no": [-2.5, -2.4, -2.2]})), WEAK, "moves an answer"),
    ],
)
def test_a_verdict_says_what_decided_it(given: Evidence, verdict: str, why: str) -> None:
    found, reason = verdict_of(given)
    assert found == verdict, reason
    assert why in reason


@pytest.mark.parametrize(
    ("alone", "both", "said"),
    [
        (0.9, None, "the system prompt alone does more (+0.900 nats)"),
        (0.9, 1.2, "the system prompt alone does more (+0.900 nats), and most with the vector (+1.200)"),
        (0.9, 0.8, "the system prompt alone does more (+0.900 nats), with the vector no more (+0.800)"),
    ],
)
def test_a_prompt_that_does_more_is_said(alone: float, both: float | None, said: str) -> None:
    given = evidence(GOOD)
    prompted = Cell(MODEL, ABOUT, control=PROMPT, system="Be so.")
    (together,) = with_prompt(given.chosen, [prompted])
    trial = Trial(given.chosen, [*given.choice.trial.cells, prompted, together])
    board = {**given.scores, prompted.intervention_id: {"effect": score(alone)}}
    if both is not None:
        board[together.intervention_id] = {"effect": score(both)}
    assert verdict_of(replace(given, choice=Choice(trial), scores=board))[1].endswith(said)


def test_the_candidate_behind_a_system_prompt_is_another_intervention() -> None:
    chosen, prompt = evidence(GOOD).chosen, Cell(MODEL, ABOUT, control=PROMPT, system="Be so.")
    (together,) = with_prompt(chosen, [prompt])
    assert len({chosen.intervention_id, prompt.intervention_id, together.intervention_id}) == 3
    assert (together.control, together.dose, together.system) == (WITH_PROMPT, chosen.dose, "Be so.")
    assert together.expression == f"{chosen.expression}, system: Be so."
    assert with_prompt(replace(chosen, steering=None), [prompt]) == []


def test_noisy_texts_are_weighed_with_what_damage_foresees() -> None:
    """Sixteen texts that happen to be perplexing do not turn a verdict that many would not."""
    assert verdict_of(evidence(GOOD, perplexity_ratio=score(1.55, 1.1, 2.2, 8)))[0] == WORKS
    assert verdict_of(evidence(GOOD, perplexity_ratio=score(1.55, 1.5, 1.6, 64)))[0] == WEAK


def test_few_texts_that_agree_by_chance_are_not_surely_known() -> None:
    """Three texts within 2 % of each other weigh as three texts of the usual spread do: less than damage."""
    foreseen = math.exp(USUAL.value * 0.15)
    for ratio in (1.8, 1.0001):
        told = evidence(GOOD, perplexity_ratio=score(ratio, ratio / 1.02, ratio * 1.02, 3)).expected_ratio or 0.0
        assert abs(math.log(told / foreseen)) < 0.5 * abs(math.log(ratio / foreseen))
    assert verdict_of(evidence(GOOD, perplexity_ratio=score(1.8, 1.78, 1.82, 3)))[0] == WORKS
    noisy = evidence(GOOD, perplexity_ratio=score(1.8, 0.9, 3.6, 3)).expected_ratio or 0.0
    assert noisy < (evidence(GOOD, perplexity_ratio=score(1.8, 1.78, 1.82, 3)).expected_ratio or 0.0)


def test_forms_are_told_apart_only_where_items_share_answers() -> None:
    yes = [Item(prompt=f"{i}?", matching=" Yes", not_matching=" No") for i in range(4)]
    no = [Item(prompt=f"not {i}?", matching=" No", not_matching=" Yes") for i in range(4)]
    own = [Item(prompt=f"say {i}", matching=f"a{i}", not_matching=f"b{i}") for i in range(8)]
    effects = {item.item_id: (3.0 if item in yes else -2.0) + 0.01 * i for i, item in enumerate((*yes, *no, *own))}
    assert "'yes' matches" in (Forms.of([*yes, *no], effects).conflict() or "")
    assert Forms.of(own, effects).conflict() is None
    assert Forms.of(yes, effects).conflict() is None


def test_nothing_is_claimed_of_a_choice_without_candidates() -> None:
    (only,) = [Rated(cell(1, 0.2), USUAL, {}, math.inf)]
    assert choose([only]) == (only, [])
