"""Rows that come and go in one batch, and conversations that go on from what was read before."""

import numpy as np
import pytest

from steering_core.engine.prefixes import Prefixes, marks
from steering_core.engine.probes import Probe
from steering_core.engine.recipes import Recipe
from steering_core.engine.running import Running
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Change, Intervention
from steering_core.models import Model, open_model
from tests.steered import PROMPTS, push
from tests.tiny import save_tiny_model


def drawn(running: Running) -> dict[int, tuple[int, ...]]:
    """Every row's tokens, to the end."""
    found: dict[int, list[int]] = {}
    while tokens := running.step():
        for token in tokens:
            found.setdefault(token.row, []).append(token.token)  # type: ignore[arg-type]
    return {row: tuple(tokens) for row, tokens in found.items()}


def alone(model: Model, request: Request) -> tuple[int, ...]:
    ((_, found),) = sample(model, [request], 60, 0.0, Work())
    return found.tokens


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_rows_come_and_go_and_each_is_what_it_is_alone(
    tmp_path: object, tiny: Model, device: str, architecture: str
) -> None:
    """Where caches hold rows of one length alone (mamba), rows that come later run beside the others."""
    config = {"model_type": "mamba", "state_size": 8, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True,
              "time_step_rank": 2, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
              "vocab_size": 260, "tie_word_embeddings": True}  # fmt: skip
    model = tiny
    if architecture == "mamba":
        model = open_model(str(save_tiny_model(tmp_path / "mamba", config)))  # type: ignore[operator]
    rows = {
        i: Request(PROMPTS[i % 3], push(model, i % 4, 2.0), i, 3 + 4 * (i % 4), Recipe(0.8 * (i % 2))) for i in range(8)
    }
    running = Running(model, Prefixes(model))
    found: dict[int, list[int]] = {}
    coming = list(rows)
    while coming or len(running):
        if coming:
            running.add({(i := coming.pop(0)): rows[i]})
        for token in running.step():
            found.setdefault(token.row, []).append(token.token)  # type: ignore[arg-type]
    assert {i: tuple(tokens) for i, tokens in found.items()} == {i: alone(model, row) for i, row in rows.items()}


def test_each_row_reads_its_own_probes(tiny: Model) -> None:
    rng = np.random.default_rng(3)
    probes = [Probe(layer, rng.standard_normal(32).astype(np.float32)) for layer in (0, 2, 3)]
    running = Running(tiny)
    running.add({0: Request(PROMPTS[0], max_tokens=6, probes=(probes[0],))})
    seen: dict[int, list[tuple[float, ...]]] = {0: [], 1: [], 2: []}
    for step in range(8):
        if step == 2:
            running.add({1: Request(PROMPTS[1], max_tokens=3, probes=(probes[2], probes[1])), 2: Request(PROMPTS[0])})
        for token in running.step():
            seen[token.row].append(token.projections)
    for row, given in ((0, probes[:1]), (1, [probes[2], probes[1]])):
        single = Running(tiny)
        single.add({row: Request(PROMPTS[row], max_tokens=6 - 3 * row, probes=tuple(given))})
        expected = [token.projections for _ in range(6) for token in single.step()]
        np.testing.assert_allclose(seen[row], expected, atol=1e-4)
    assert set(seen[2]) == {()}


@pytest.mark.parametrize("heat", [0.0, 0.9])
def test_a_cpu_hands_first_tokens_on_before_the_next_pass(tiny: Model, device: str, heat: float) -> None:
    """Sampled tokens all are. Elsewhere the next pass is under way while a token is looked at."""
    work, recipe = Work(), Recipe(heat, logit_bias=tuple((token, -100.0) for token in tiny.stop_tokens))
    running = Running(tiny, work=work)
    running.add({0: Request(PROMPTS[0], max_tokens=4, recipe=recipe)})
    passes = []
    while len(running):
        running.step()
        passes.append(work.forward_passes)
    assert passes == {"gpu": [3, 4, 5, 5], "cpu": [2, 3, 4, 5] if heat else [2, 4, 5, 5]}[device]
    running.add({1: Request(PROMPTS[0], max_tokens=4, recipe=recipe)})
    running.step()
    running.cancel(1)
    running.step()
    assert work.forward_passes == 5 + passes[0]  # nobody waits for a pass that was not begun


@pytest.mark.parametrize("heat", [0.0, 0.9])
@pytest.mark.parametrize("steps", range(4))
def test_rows_that_come_after_all_others_were_cancelled_are_what_they_are_alone(
    tiny: Model, device: str, steps: int, heat: float
) -> None:
    recipe = Recipe(heat, presence_penalty=0.5 * (steps % 2))  # a penalty has each pass wait for the token before it
    running = Running(tiny, Prefixes(tiny))
    for come in range(0, 6, 2):
        running.add({row: Request(PROMPTS[row % 3], seed=row, max_tokens=9, recipe=recipe) for row in (come, come + 1)})
        for _ in range(steps):
            running.step()
        running.cancel(come)
        running.cancel(come + 1)
        assert len(running) == 0
    last = Request(PROMPTS[1], seed=7, max_tokens=9)
    running.add({9: last})
    assert drawn(running) == {9: alone(tiny, last)}


def test_a_misfit_is_refused_and_the_others_go_on(tiny: Model) -> None:
    running = Running(tiny)
    running.add({0: Request(PROMPTS[0], max_tokens=4)})
    with pytest.raises(InterventionError, match="layer 9"):
        running.add({1: Request(PROMPTS[0], Intervention((Change(9, np.ones(32, np.float32)),)))})
    assert drawn(running) == {0: alone(tiny, Request(PROMPTS[0], max_tokens=4))}


# -- prefixes -----------------------------------------------------------------------------------------------------

OPENING = tuple(range(5, 65))
MORE = (9, 8, 7, 6)


def conversation(model: Model, intervention: Intervention, prefixes: Prefixes | None) -> tuple[list[object], list[int]]:
    """What is drawn in three turns, each behind all before; and the tokens that each turn has the model read."""
    tokens, found, read = OPENING, [], []
    for turn in range(3):
        work = Work()
        running = Running(model, prefixes, work)
        running.add({0: Request(tokens, intervention, turn, 8, Recipe(0.9))})
        (reply,) = drawn(running).values()
        found.append(reply)
        read.append(work.tokens - len(reply))
        tokens = (*tokens, *reply, *MORE)
    return found, read


@pytest.mark.parametrize("phase", [None, "all", "prompt", "generation"])
def test_a_turn_reads_only_what_is_new_and_says_the_same(tiny: Model, device: str, phase: str | None) -> None:
    """Behind `@generation` the reply is read again, unsteered, as the next turn has it in its prompt."""
    intervention = push(tiny, 1, 1.0, phase) if phase else Intervention()
    anew, all_read = conversation(tiny, intervention, None)
    again, read = conversation(tiny, intervention, Prefixes(tiny))
    assert again == anew
    assert read[0] == all_read[0]
    assert all_read[1] > 60
    replies = 8 + 1 if phase in ("generation", "prompt") else 0
    assert max(read[1:]) <= len(MORE) + 2 + replies, (read, all_read)


@pytest.mark.parametrize("known", [20, 90])
def test_rows_that_begin_together_go_on_from_a_prefix_where_that_saves_work(
    tiny: Model, device: str, known: int
) -> None:
    """A pass of a row's own goes through all weights: a short prefix is read with the others instead."""
    opening, prefixes = tuple(range(5, 5 + known)), Prefixes(tiny)
    first = Running(tiny, prefixes)
    first.add({0: Request(opening, max_tokens=2)})
    drawn(first)
    rows = {
        i: Request((*opening, 200 + i, *MORE[: i + 1]), push(tiny, 1, 1.0 + i), i, 5, Recipe(0.0)) for i in range(3)
    }
    work = Work()
    running = Running(tiny, prefixes, work)
    running.add(rows)
    assert drawn(running) == {i: alone(tiny, request) for i, request in rows.items()}
    drawing = 3 * 5  # tokens, in five passes of all three rows
    reading = sum(len(request.tokens) - 1 for request in rows.values())
    longest = max(len(request.tokens) - 1 for request in rows.values())
    if known == 20:
        assert (work.forward_passes, work.tokens) == (1 + 5, 3 * longest + drawing)  # padded to the longest
    else:
        assert (work.forward_passes, work.tokens) == (3 + 5, reading - 3 * known + drawing)


def test_other_steering_shares_no_more_than_what_it_left_alone(tiny: Model) -> None:
    prefixes = Prefixes(tiny)
    conversation(tiny, push(tiny, 1, 1.0, "all"), prefixes)
    for other in (Intervention(), push(tiny, 1, 1.5, "all"), push(tiny, 2, 1.0, "all")):
        assert prefixes.found(OPENING, other) is None
    known = prefixes.found(OPENING, push(tiny, 1, 1.0, "all"))
    assert known is not None
    assert known[1] == len(OPENING) - 1


@pytest.mark.parametrize("phase", [None, "all", "generation"])
@pytest.mark.parametrize("drawn_before", [1, 8])
def test_a_prompt_that_is_known_whole_costs_no_pass(tiny: Model, phase: str | None, drawn_before: int) -> None:
    """Its last token alone is read, in the pass that gives the first new token."""
    intervention = push(tiny, 1, 1.0, phase) if phase else Intervention()
    prefixes, work = Prefixes(tiny), Work()
    first = Running(tiny, prefixes)
    first.add({0: Request(OPENING, intervention, max_tokens=drawn_before)})
    drawn(first)
    again = Running(tiny, prefixes, work)
    again.add({0: Request(OPENING, intervention, max_tokens=5)})
    assert drawn(again) == {0: alone(tiny, Request(OPENING, intervention, max_tokens=5))}
    assert (work.forward_passes, work.tokens) == (5, 5)


def test_marks_tell_what_acts_where(tiny: Model) -> None:
    acting, idle = push(tiny, 1, 1.0), push(tiny, 1, 0.0)
    assert marks((7, 8, 9), 2, Intervention()) == marks((7, 8, 9), 2, idle) == [7, 8, 9]
    found = marks((7, 8, 9), 2, acting)
    assert found[0] == 7
    assert found[1] != 8
    assert found[1:] == [(8, found[1][1]), (9, found[1][1])]  # type: ignore[index]


def test_the_texts_used_longest_ago_go_first_and_all_within_a_share_of_memory(tiny: Model) -> None:
    room = tiny.memory.limit
    try:
        tiny.memory.limit = tiny.memory.footprint.weights + 400_000
        prefixes = Prefixes(tiny)
    finally:
        tiny.memory.limit = room
    for first in range(20):
        running = Running(tiny, prefixes)
        running.add({0: Request((first, *OPENING), max_tokens=3)})
        drawn(running)
        assert prefixes.nbytes <= 100_000
    assert prefixes.found((19, *OPENING), Intervention()) is not None
    assert prefixes.found((0, *OPENING), Intervention()) is None
    prefixes.clear()
    assert prefixes.nbytes == 0
