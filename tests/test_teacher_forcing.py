"""Teacher forcing: restarts from a trunk give what a plain pass over the whole sequence gives."""

from dataclasses import replace

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine import restarts
from steering_core.engine.teacher_forcing import (
    Scored,
    cross_entropy_gaps,
    divergences,
    log_probabilities,
    log_sum_exp,
)
from steering_core.engine.trunk import grow, read_ahead, restart
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from tests.steered import ANSWERS, PROMPT, change, interventions, plain_log_softmax


@pytest.fixture(autouse=True)
def _nothing_kept(tiny: Model) -> None:
    """No test finds what another one computed."""
    tiny.remembered.clear()


def test_restarts_give_what_plain_passes_give(tiny: Model) -> None:
    sequences = [Scored(PROMPT + a, len(PROMPT), i) for i in interventions(tiny) for a in ANSWERS]
    for found, sequence in zip(log_probabilities(tiny, sequences, Work()), sequences, strict=True):
        full = plain_log_softmax(tiny, sequence.tokens, sequence.start, sequence.intervention)
        places = range(sequence.start - 1, len(sequence.tokens) - 1)
        np.testing.assert_allclose(found, full[places, sequence.answer], atol=2e-4)


@pytest.mark.parametrize("budget", [1, 7, 10_000])
def test_scores_do_not_depend_on_how_rows_are_batched(
    tiny: Model, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [Scored(PROMPT + a, len(PROMPT), i) for i in interventions(tiny)[:6] for a in ANSWERS]
    together = log_probabilities(tiny, sequences, Work())
    monkeypatch.setattr(tiny.memory, "habits", replace(tiny.memory.habits, scoring=budget, trunk=max(1, budget // 2)))
    for a, b in zip(log_probabilities(tiny, sequences, Work()), together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(("n", "passes"), [(1, 1), (2, 2), (4, 2)])
def test_scores_are_the_same_in_one_lane_and_in_several(
    tiny: Model, n: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [Scored(PROMPT + a, len(PROMPT), i) for i in interventions(tiny)[:6] for a in ANSWERS]
    alone = log_probabilities(tiny, sequences, Work())
    monkeypatch.setattr(restarts, "lanes", lambda: n)
    monkeypatch.setattr(restarts, "_LANE", 70)  # of 6 x 3 rows of 10 tokens
    work = Work()
    for a, b in zip(log_probabilities(tiny, sequences, work), alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert work.forward_passes == passes
    gaps = interventions(tiny)[1:6]
    found = cross_entropy_gaps(tiny, PROMPT, ANSWERS[2] * 4, gaps, 0.7, Work())
    monkeypatch.undo()
    np.testing.assert_allclose(found, cross_entropy_gaps(tiny, PROMPT, ANSWERS[2] * 4, gaps, 0.7, Work()), atol=1e-5)


def test_blocks_before_the_restart_are_not_computed(tiny: Model) -> None:
    """Poison the earlier blocks' weights after the trunk has grown: a restart that ran them would be nan."""
    what = Intervention((change(tiny, 2),))
    trunk = grow(tiny, PROMPT, [(30,)], [what], Work())
    before = np.array(restart(trunk, [(0, what)], [(0, 0)], Work()))
    early = [tiny.network.layers[i].mlp.down_proj for i in (0, 1, 2)]
    kept = [block.weight for block in early]
    try:
        for block in early:
            block.weight = mx.full(block.weight.shape, float("nan"))
        after = np.array(restart(trunk, [(0, what)], [(0, 0)], Work()))
    finally:
        for block, weight in zip(early, kept, strict=True):
            block.weight = weight
    np.testing.assert_array_equal(before, after)


def test_divergences_are_kullback_leiblers_from_the_unsteered_distribution(tiny: Model) -> None:
    whats = interventions(tiny)
    base = plain_log_softmax(tiny, PROMPT, len(PROMPT), Intervention())[-1]
    for found, what in zip(divergences(tiny, PROMPT, whats, Work()), whats, strict=True):
        steered = plain_log_softmax(tiny, PROMPT, len(PROMPT), what)[-1]
        assert found == pytest.approx((np.exp(base) * (base - steered)).sum(), abs=1e-4)
    assert divergences(tiny, PROMPT, whats[:1], Work()) == [0.0]


def test_a_diverged_row_is_nan_and_leaves_its_neighbours_alone(tiny: Model) -> None:
    huge = Intervention((change(tiny, 1, 1e38),))
    answer = Scored(PROMPT + ANSWERS[0], len(PROMPT))
    alone = log_probabilities(tiny, [answer], Work())[0]
    broken, kept = log_probabilities(tiny, [Scored(answer.tokens, answer.start, huge), answer], Work())
    assert not np.isfinite(broken).all()
    np.testing.assert_allclose(kept, alone, atol=1e-4)
    assert np.isnan(divergences(tiny, PROMPT, [huge], Work())[0])


def test_log_sum_exp_is_stable() -> None:
    values = np.random.default_rng(0).normal(0, 50, (37, 11)).astype(np.float32)
    np.testing.assert_allclose(log_sum_exp(values), np.logaddexp.reduce(values.astype(np.float64), axis=-1), rtol=1e-5)
    assert np.isfinite(log_sum_exp(np.full((2, 3), 1e4, np.float32))).all()


def test_answers_that_differ_in_their_last_token_share_a_row(tiny: Model) -> None:
    what, work = Intervention((change(tiny, 1),)), Work()
    pair = [Scored((*PROMPT, 30, last), len(PROMPT), what) for last in (31, 32)]
    found = log_probabilities(tiny, pair, work)
    assert work.tokens == 5 + 2 + 2
    for values, sequence in zip(found, pair, strict=True):
        full = plain_log_softmax(tiny, sequence.tokens, sequence.start, what)
        np.testing.assert_allclose(values, full[[5, 6], sequence.answer], atol=2e-4)


def test_work_counts_the_tokens_that_were_run(tiny: Model) -> None:
    work = Work()
    log_probabilities(tiny, [Scored((*PROMPT, 30, 31), len(PROMPT), i) for i in interventions(tiny)[1:4]], work)
    assert (work.forward_passes, work.tokens) == (3, 5 + 2 + 3 * 2)  # the prefix, the trunk, and all rows in one pass


def test_other_interventions_restart_from_the_trunk_that_is_there(tiny: Model) -> None:
    def sequences(amount: float) -> list[Scored]:
        what = [Intervention((change(tiny, layer, amount),)) for layer in (1, 2)]
        return [Scored(PROMPT + a, len(PROMPT), one) for a in ANSWERS for one in what]

    log_probabilities(tiny, sequences(2.0), Work())
    again, anew = Work(), Work()
    found = log_probabilities(tiny, sequences(-1.0), again)
    tiny.remembered.clear()
    for one, other in zip(found, log_probabilities(tiny, sequences(-1.0), anew), strict=True):
        np.testing.assert_array_equal(one, other)
    prefix, trunk = 5, 3 * 5  # the prompt but its last token; three answers but their last one, behind that
    assert (anew.forward_passes - again.forward_passes, anew.tokens - again.tokens) == (2, prefix + trunk)


def test_a_trunk_without_a_wanted_layer_is_grown_again_behind_its_prefix(tiny: Model) -> None:
    first, second, both = (
        [Scored((*PROMPT, 30, 31), len(PROMPT), Intervention((change(tiny, layer),))) for layer in layers]
        for layers in ([1], [2], [1, 2])
    )
    for sequences, tokens in ((first, 5 + 2 + 2), (second, 2 + 2), (both, 2 * 2)):
        work = Work()
        found = log_probabilities(tiny, sequences, work)
        assert work.tokens == tokens
        for values, sequence in zip(found, sequences, strict=True):
            full = plain_log_softmax(tiny, sequence.tokens, sequence.start, sequence.intervention)
            np.testing.assert_allclose(values, full[[5, 6], [30, 31]], atol=2e-4)


def test_a_phase_that_steers_the_prompt_has_a_trunk_of_its_own(tiny: Model) -> None:
    everywhere, answer = (Intervention((change(tiny, 1, phase=phase),)) for phase in ("all", "generation"))
    for what in (answer, everywhere, answer):
        sequence = Scored((*PROMPT, 30, 31), len(PROMPT), what)
        full = plain_log_softmax(tiny, sequence.tokens, sequence.start, what)
        (found,) = log_probabilities(tiny, [sequence], Work())
        np.testing.assert_allclose(found, full[[5, 6], [30, 31]], atol=2e-4)


def test_prompts_that_are_read_ahead_are_read_together_and_not_again(tiny: Model) -> None:
    prompts = [PROMPT, PROMPT[:3], (*PROMPT, 8, 9), PROMPT]
    what = Intervention((change(tiny, 1),))
    sequences = [Scored((*prompt, 30, 31), len(prompt), what) for prompt in prompts]
    alone = log_probabilities(tiny, sequences, Work())
    tiny.remembered.clear()
    ahead, then, none = Work(), Work(), Work()
    read_ahead(tiny, prompts, ahead)
    assert (ahead.forward_passes, ahead.tokens) == (1, 3 * 7)  # padded to the longest
    for one, other in zip(log_probabilities(tiny, sequences, then), alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert then.tokens == 3 * 2 + 3 * 2  # a trunk and a restart of two tokens each: no prompt
    read_ahead(tiny, prompts, none)
    read_ahead(tiny, [(5,), (5, 6)], none)
    assert none.tokens == 0  # known, too short, or only one
