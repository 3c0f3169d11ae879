"""Recipes: mlx-lm's own processors and filters, a row at a time; grammars; log-probabilities; rows that join."""

import json
from dataclasses import replace

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine.decoding import Decoding
from steering_core.engine.grammar import json_grammar
from steering_core.engine.recipes import Recipe
from steering_core.engine.requests import Limits
from steering_core.engine.sampling import Request, Sample, sample, stream
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import GrammarError
from steering_core.models import Model
from tests.steered import PROMPTS, push

PENALTIES = (
    Recipe(repetition_penalty=1.8, repetition_context=6),
    Recipe(presence_penalty=2.0, presence_context=50),
    Recipe(frequency_penalty=-3.0),
    Recipe(logit_bias=((103, -100.0), (40, 0.5))),
)


pytestmark = pytest.mark.usefixtures("device")


def texts(model: Model, requests: list[Request], most: int = 10) -> list[Sample]:
    found = dict(sample(model, requests, most, 0.0, Work()))
    return [found[i] for i in range(len(requests))]


def of_mlx_lm(model: Model, recipe: Recipe, most: int = 10) -> tuple[int, ...]:
    """The tokens of mlx-lm's own loop, greedy, up to a stop token."""
    from mlx_lm.generate import generate_step
    from mlx_lm.sample_utils import make_logits_processors

    processors = make_logits_processors(
        dict(recipe.logit_bias), recipe.repetition_penalty, recipe.repetition_context,
        recipe.presence_penalty, recipe.presence_context, recipe.frequency_penalty, recipe.frequency_context,
    )  # fmt: skip
    steps = generate_step(mx.array(PROMPTS[0]), model.network, max_tokens=most, logits_processors=processors)
    tokens: list[int] = []
    for token, _ in steps:
        tokens.append(int(token))
        if int(token) in model.stop_tokens:
            break
    return tuple(tokens)


def test_each_rows_penalties_give_the_tokens_of_mlx_lms_own_loop(tiny: Model) -> None:
    rows = [Request(PROMPTS[0], recipe=recipe) for recipe in (Recipe(), *PENALTIES)]
    found = texts(tiny, rows)
    expected = [of_mlx_lm(tiny, recipe) for recipe in (Recipe(), *PENALTIES)]
    assert [f.tokens for f in found] == expected
    assert len(set(expected)) == len(expected), "each recipe tells in this test"


def test_filters_leave_only_the_tokens_that_they_should(tiny: Model) -> None:
    logits = np.array(tiny.network(mx.array([PROMPTS[0]])))[0, -1]
    ranked = np.argsort(-logits)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    nucleus = ranked[: int((np.cumsum(shares[ranked]) < 0.3).sum()) + 1]
    within = ranked[shares[ranked] >= 0.5 * shares.max()]
    for recipe, allowed in (
        (Recipe(5.0, top_k=3), ranked[:3]), (Recipe(1.0, top_p=0.3), nucleus), (Recipe(1.0, min_p=0.5), within)
    ):  # fmt: skip
        first = texts(tiny, [Request(PROMPTS[0], seed=i, recipe=recipe) for i in range(60)], 1)
        drawn = {s.tokens[0] for s in first}
        assert drawn <= {int(t) for t in allowed}
        assert len(drawn) > 1
        assert len(allowed) < len(logits)


def test_a_rows_recipe_is_its_own(tiny: Model) -> None:
    recipes = [Recipe(0.9), Recipe(), Recipe(0.7, top_k=5), Recipe(1.2, min_p=0.1), *PENALTIES]
    rows = [Request(PROMPTS[i % 3], push(tiny, i % 4), i, recipe=recipe) for i, recipe in enumerate(recipes)]
    together = texts(tiny, rows)
    assert [texts(tiny, [row])[0] for row in rows] == together


def test_log_probabilities_are_the_softmax_of_the_logits(tiny: Model) -> None:
    request = Request(PROMPTS[0], logprobs=3, recipe=Recipe(1.0, top_k=2))
    with stream(tiny, [request, Request(PROMPTS[1])], 4) as tokens:
        drawn = [t for t in tokens if t.row == 0]
    sequence = PROMPTS[0]
    for token in drawn:
        logits = np.array(tiny.network(mx.array([sequence])))[0, -1].astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum())
        assert token.token is not None
        assert token.logprob == pytest.approx(expected[token.token], abs=1e-4)
        assert [t for t, _ in token.likeliest] == np.argsort(-expected)[:3].tolist()
        assert [p for _, p in token.likeliest] == pytest.approx(np.sort(expected)[::-1][:3].tolist(), abs=1e-4)
        sequence += (token.token,)


def test_a_grammar_holds_a_random_model_to_json(tiny: Model) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 22]}},
              "required": ["ok", "n"], "additionalProperties": False}  # fmt: skip
    grammar = json_grammar(tiny, schema)
    rows = [Request(PROMPTS[0], seed=i, recipe=Recipe(1.0, grammar=grammar)) for i in range(3)]
    free = Request(PROMPTS[0], seed=9, recipe=Recipe(1.0))
    found = texts(tiny, [*rows, free], 60)
    for one in found[:3]:
        assert one.finish == "stop"
        value = json.loads(one.text)
        assert set(value) == {"ok", "n"}
        assert value["n"] in (1, 22)
    assert found[3] == texts(tiny, [free], 60)[0]
    with pytest.raises(GrammarError, match="cannot be followed"):
        json_grammar(tiny, {"type": "nothing of the kind"})


def running(model: Model, rows: dict[int, Request], most: int) -> Decoding:
    made = Decoding(model, rows, Limits(most, 0.0), Work())
    made.begin()
    return made


def test_a_row_that_joins_is_what_it_is_alone(tiny: Model) -> None:
    """Rows of other lengths, steering, recipes, probes and limits come at any step, and leave when they are done."""
    recipes = [Recipe(0.9), Recipe(), Recipe(0.8, top_k=9), Recipe(1.0, repetition_penalty=1.5), Recipe(0.9), Recipe()]
    rows = {
        i: Request(PROMPTS[i % 3], push(tiny, i % 4, 2.0), i, 4 + 3 * i, recipe) for i, recipe in enumerate(recipes)
    }
    drawn: dict[int, list[int]] = {i: [] for i in rows}
    decoding = running(tiny, {0: rows[0], 1: rows[1]}, 40)
    waiting = [2, 3, 4, 5]
    step = 0
    while tokens := decoding.step():
        for token in tokens:
            drawn[token.row].append(token.token)  # type: ignore[arg-type]
        step += 1
        if waiting and step % 2 and len(decoding):
            decoding.join(running(tiny, {(i := waiting.pop(0)): rows[i]}, 40))
    assert not waiting
    alone = texts(tiny, [replace(row) for row in rows.values()], 40)
    assert [tuple(drawn[i]) for i in rows] == [s.tokens for s in alone]
