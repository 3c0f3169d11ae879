"""Answers under additions: their log-probabilities are teacher forcing's, their gradients finite differences'."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.engine.teacher_forcing import Scored, log_probabilities
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import LayerNotFound, PromptError
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.where import Where
from steering_core.models import Model, cpu, open_model
from tests.networks import CONFIGS
from tests.tiny import byte_tokenizer, save_network

SHAPES = ((12, 5), (9, 3), (15, 10), (7, 1), (12, 5))  # tokens, and where the answer begins


def drawn_answers(
    seed: int = 0, vocabulary: int = 260, shapes: Sequence[tuple[int, int]] = SHAPES
) -> list[GivenAnswer]:
    random = np.random.default_rng(seed)
    return [GivenAnswer(tuple(random.integers(1, vocabulary, n).tolist()), start) for n, start in shapes]


def additions(model: Model, layers: Sequence[int], seed: int = 1) -> dict[int, np.ndarray]:
    random = np.random.default_rng(seed)
    return {k: random.standard_normal((len(SHAPES), model.identity.width)).astype(np.float32) for k in layers}


def by_teacher_forcing(model: Model, answers: Sequence[GivenAnswer], added: dict[int, np.ndarray]) -> list[float]:
    def changes(row: int) -> tuple[Change, ...]:
        return tuple(Change(layer, d[row], 1.0, ADD.name, Where("generation")) for layer, d in added.items())

    scored = [Scored(a.tokens, a.start, Intervention(changes(row))) for row, a in enumerate(answers)]
    return [float(found.mean(dtype=np.float64)) for found in log_probabilities(model, scored, Work())]


@pytest.mark.parametrize("layers", [(1,), (3,), (1, 2), (0, 3)])
def test_values_are_teacher_forcings(tiny: Model, layers: tuple[int, ...]) -> None:
    answers, added = drawn_answers(), additions(tiny, layers)
    read = GivenAnswers(tiny, answers, [layers[0]], Work())
    expected = by_teacher_forcing(tiny, answers, added)
    np.testing.assert_allclose(read.log_probabilities(range(5), added), expected, atol=2e-5)
    np.testing.assert_allclose(read.gradients(range(5), added).values, expected, atol=2e-5)


@pytest.mark.parametrize("layers", [(1,), (3,), (0, 2)])
def test_gradients_are_finite_differences(tiny: Model, layers: tuple[int, ...]) -> None:
    read, added = GivenAnswers(tiny, drawn_answers(), [layers[0]], Work()), additions(tiny, layers)
    found = read.gradients(range(5), added)
    for layer, way in additions(tiny, layers, seed=2).items():
        up, down = (read.log_probabilities(range(5), {**added, layer: added[layer] + e * way}) for e in (0.01, -0.01))
        along = (found.by_layer[layer] * way).sum(axis=1)
        np.testing.assert_allclose(along, (up - down) / 0.02, rtol=0.02, atol=2e-4)


def test_an_answer_runs_alone_as_among_others_in_any_order(tiny: Model) -> None:
    read, added = GivenAnswers(tiny, drawn_answers(), [1], Work()), additions(tiny, [1])
    whole = read.gradients(range(5), added)
    order = [3, 0, 3]
    some = read.gradients(order, {1: added[1][order]})
    np.testing.assert_allclose(some.values, whole.values[order], atol=1e-5)
    np.testing.assert_allclose(some.by_layer[1], whole.by_layer[1][order], atol=1e-4)


def test_of_many_groups_those_alone_run_that_are_asked_for(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    added = additions(tiny, [1])
    whole = GivenAnswers(tiny, drawn_answers(), [1], Work()).gradients(range(5), added)
    monkeypatch.setattr(tiny.memory, "habits", dataclasses.replace(tiny.memory.habits, training=1))
    read = GivenAnswers(tiny, drawn_answers(), [1], work := Work())
    before = work.forward_passes
    values = read.log_probabilities([2], {1: added[1][[2]]})
    assert work.forward_passes == before + 1
    np.testing.assert_allclose(values, whole.values[[2]], atol=1e-5)


def test_a_pass_holds_what_memory_allows(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    added = additions(tiny, [1])
    whole = GivenAnswers(tiny, drawn_answers(), [1], work := Work()).gradients(range(5), added)
    monkeypatch.setattr(tiny.memory, "room", lambda *_: 1)
    one_by_one = GivenAnswers(tiny, drawn_answers(), [1], more := Work()).gradients(range(5), added)
    assert more.forward_passes > work.forward_passes
    np.testing.assert_allclose(one_by_one.by_layer[1], whole.by_layer[1], atol=1e-4)


def test_gradients_of_drawn_tokens_have_mean_zero_and_the_seed_fixes_them(tiny: Model) -> None:
    read, zero = GivenAnswers(tiny, drawn_answers(), [2], Work()), {2: np.zeros((5, tiny.identity.width), np.float32)}
    drawn = np.array([read.gradients(range(5), zero, drawn=seed).by_layer[2][0] for seed in range(300)])
    mean, error = drawn.mean(axis=0), drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.mean(np.abs(mean) > 3 * error) < 0.1
    np.testing.assert_array_equal(read.gradients(range(5), zero, drawn=7).by_layer[2][0], drawn[7])
    alone = read.gradients([0], {2: zero[2][:1]}, drawn=7).by_layer[2][0]
    np.testing.assert_allclose(alone, drawn[7], atol=1e-6)  # the same tokens; a pass of one row rounds otherwise
    assert np.abs(drawn[8] - drawn[7]).max() > 1e-3


def test_a_gpus_way_through_the_vocabulary_gives_the_same(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read, added = GivenAnswers(tiny, drawn_answers(), [1], Work()), additions(tiny, [1])
    own, drawn = read.gradients(range(5), added), read.gradients(range(5), added, drawn=4)
    monkeypatch.setattr("steering_core.engine.gradients.on_cpu", lambda: False)
    for expected, seed in ((own, None), (drawn, 4)):
        found = read.gradients(range(5), added, drawn=seed)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        np.testing.assert_allclose(found.by_layer[1], expected.by_layer[1], atol=1e-5)


def test_on_a_cpu_the_fast_functions_have_gradients() -> None:
    x = mx.array(np.linspace(-6, 6, 50, dtype=np.float32))
    with cpu.with_gradients():
        exp, swiglu = (mx.grad(lambda x, f=f: f(x).sum())(x) for f in (cpu.exp, lambda x: cpu.swiglu(x, 2 * x)))
    np.testing.assert_allclose(exp, np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(swiglu, mx.grad(lambda x: (x * mx.sigmoid(x) * 2 * x).sum())(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", "qwen2", "phi", "mamba", "gpt_neox", "olmoe", "gemma3_text", "qwen3"])
def test_other_architectures(name: str, tmp_path: Path) -> None:
    save_network(tmp_path, CONFIGS[name])
    byte_tokenizer().save_pretrained(tmp_path)
    with open_model(str(tmp_path)) as model:
        answers, layer = drawn_answers(vocabulary=min(260, model.identity.vocab_size)), model.identity.n_layers - 2
        added = additions(model, [layer])
        read = GivenAnswers(model, answers, [layer], Work())
        found = read.gradients(range(5), added)
        np.testing.assert_allclose(found.values, by_teacher_forcing(model, answers, added), atol=2e-3)
        way = additions(model, [layer], seed=2)[layer]
        up, down = (read.log_probabilities(range(5), {layer: added[layer] + e * way}) for e in (0.01, -0.01))
        np.testing.assert_allclose((found.by_layer[layer] * way).sum(axis=1), (up - down) / 0.02, rtol=0.05, atol=2e-3)


def test_what_cannot_be_run_is_refused(tiny: Model) -> None:
    with pytest.raises(PromptError, match="from token 3 on of 3"):
        GivenAnswer((1, 2, 3), 3)
    with pytest.raises(PromptError, match="from token 0 on of 2"):
        GivenAnswer((1, 2), 0)
    with pytest.raises(LayerNotFound, match="layer 4"):
        GivenAnswers(tiny, drawn_answers(), [4], Work())
