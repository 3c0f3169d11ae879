"""Trained methods: a planted direction is found, gradients are right, the same seed gives the same vector."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from steering_core.api.quick_vectors import derive_vector
from steering_core.concepts import SIDES, load_concept
from steering_core.engine.gradients import GivenAnswers, Gradients
from steering_core.models import Model, open_model
from steering_core.prompts import pair_prompt, prompt
from steering_core.vectors.methods import TRAINED
from steering_core.vectors.training.at_layer import Training, training_at
from steering_core.vectors.training.descent import Descent, trained
from steering_core.vectors.training.fits import trained_direction
from steering_core.vectors.training.pair_passes import PairPasses
from steering_core.vectors.training.pairs import answer_pair
from tests import toy
from tests.trained import along, answered

LAYER = 1


def training(model: Model, n: int = 8, seed: int = 0, noise: float = 1.0, validation: int = 4) -> Training:
    """The toy's concept, whose mean difference is hidden under noise."""
    concept = answered(n + validation)
    pairs = [answer_pair(*(pair_prompt(model, concept, p, s) for s in ("positive", "negative"))) for p in concept.pairs]
    passes = PairPasses(model, pairs[:n], pairs[n:], [0, LAYER, 2])
    differences = toy.axes()[1] + noise * np.random.default_rng(3).standard_normal((n, toy.WIDTH))
    return training_at(passes, LAYER, differences, np.zeros_like(differences), 1.0, seed)


def toy_preference(model: Model, pair: int, by: float) -> float:
    """The closed form of a pair's preference with `by` added along v."""
    passes = training(model).passes
    means = []
    for answer in passes.train[pair]:
        steps = zip(answer.tokens[answer.start - 1 :], answer.tokens[answer.start :])  # noqa: B905
        means.append(np.mean([toy.log_softmax(toy.logits_after(a, by))[b] for a, b in steps]))
    return float(means[0] - means[1])


def test_preferences_and_gradients_are_the_closed_form(toy_model: Model) -> None:
    found = training(toy_model).preferences(2.0 * toy.axes()[1])
    for pair in range(8):
        assert found.values[pair] == pytest.approx(toy_preference(toy_model, pair, 2.0), abs=1e-4)
        slope = (toy_preference(toy_model, pair, 2.001) - toy_preference(toy_model, pair, 1.999)) / 0.002
        assert found.gradients[pair] @ toy.axes()[1] == pytest.approx(slope, abs=1e-3)


def test_one_backward_pass_gives_every_layer(toy_model: Model) -> None:
    """The toy's blocks do nothing, so an addition does the same at each."""
    passes = training(toy_model).passes
    one, two, three = (passes.unsteered[1][layer] for layer in (0, 1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)
    np.testing.assert_allclose(two, three, atol=1e-6)
    assert passes.work.forward_passes <= 4


@pytest.mark.parametrize("name", ["gradient", "natural_gradient", "preference"])
def test_the_planted_direction_is_recovered_from_a_noisy_start(toy_model: Model, name: str) -> None:
    given = training(toy_model)
    assert along(given.start) < 0.7
    assert along(trained_direction(name, given)) > 0.95


def test_one_pair_alone_is_enough_to_train_on(toy_model: Model) -> None:
    given = training(toy_model)
    assert along(given.first_pair().start) < 0.4
    assert along(trained_direction("one_shot", given)) > 0.9
    assert given.notes["steps"] > 0


def test_lengths_are_the_mean_differences_or_the_dose(toy_model: Model) -> None:
    given = training(toy_model)
    assert np.linalg.norm(trained_direction("gradient", given)) == pytest.approx(np.linalg.norm(given.start))
    assert np.linalg.norm(trained_direction("preference", given)) == pytest.approx(0.2 * given.residual_norm)


def test_ways_mirror_the_vector_and_its_gradient(toy_model: Model) -> None:
    given, v = training(toy_model), 1.5 * toy.axes()[1]
    up, down = given.preferences(v, [2]), given.preferences(-v, [2])
    both = given.preferences(v, [2, 2], np.array([1.0, -1.0]))
    np.testing.assert_allclose(both.values, [up.values[0], down.values[0]], atol=1e-5)
    np.testing.assert_allclose(both.gradients, [up.gradients[0], -down.gradients[0]], atol=1e-5)


def test_validation_is_half_of_the_way_there_minus_the_way_back(toy_model: Model) -> None:
    given, v = training(toy_model, n=4, validation=4), 2.0 * toy.axes()[1]
    swapped = training(toy_model, n=8, validation=0)
    expected = (swapped.preferences(v).values - swapped.preferences(-v).values)[4:] / 2
    np.testing.assert_allclose(given.validation(v), expected, atol=1e-5)


def test_exchanged_labels_turn_values_gradients_and_start(toy_model: Model) -> None:
    given = training(toy_model)
    differences = given.activations[0::2] - given.activations[1::2]
    shuffled = training_at(given.passes, LAYER, given.activations[0::2], given.activations[1::2], 1.0, 0, shuffled=5)
    labels = np.where(shuffled.pairs[:, 0] < shuffled.pairs[:, 1], 1.0, -1.0)
    assert sorted(labels) == [-1.0] * 4 + [1.0] * 4
    np.testing.assert_allclose(shuffled.unsteered.values, labels * given.unsteered.values)
    np.testing.assert_allclose(shuffled.preferences(given.start).values, labels * given.preferences(given.start).values)
    np.testing.assert_allclose(shuffled.start, (labels[:, None] * differences).mean(axis=0))
    found, left = (np.linalg.norm(of.unsteered.gradients.mean(axis=0)) for of in (given, shuffled))
    assert left < 0.2 * found  # on the toy all gradients lie along one line, so labels cancel and do not turn it


def test_the_same_seed_gives_the_same_vector_and_another_one_another(toy_model: Model) -> None:
    one, same, other = (trained(training(toy_model, seed=seed), Descent(epochs=2)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_training_ends_where_validation_gains_nothing_and_keeps_the_best(toy_model: Model) -> None:
    given = training(toy_model, noise=0.0)
    found = trained(given, Descent(epochs=50, patience=2))
    gains = given.notes["validation"]
    assert len(gains) < 51
    assert float(given.validation(found).mean()) == pytest.approx(max(gains), abs=1e-4)
    assert len(given.notes["losses"]) == len(gains) - 1


def test_bare_texts_are_compared_from_where_they_part(toy_model: Model) -> None:
    read = [prompt(toy_model, text, chat=False) for text in ("I feel GOOD", "I feel bad")]
    one, other = answer_pair(*read)
    assert one.start == other.start == len("I feel ")
    one, other = answer_pair(*(prompt(toy_model, text, chat=False) for text in ("GOOD", "bad")))
    assert one.start == other.start == 1
    one, other = answer_pair(*(prompt(toy_model, text, chat=False) for text in ("GOOD", "GOODNESS")))
    assert one.start == other.start == 1


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_passes_are_no_more_than_declared(toy_model: Model, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given, runs, run = training(toy_model, n=20, validation=0), list[int](), GivenAnswers.gradients

    def counted(self: GivenAnswers, places: Sequence[int], *more: Any, **how: Any) -> Gradients:
        runs.append(len(places))
        return run(self, places, *more, **how)

    monkeypatch.setattr(GivenAnswers, "gradients", counted)
    trained_direction(name, given)
    assert 0 < sum(runs) / len(given.passes.answers) <= TRAINED[name].shared + TRAINED[name].passes


def test_a_vector_is_trained_from_a_few_texts(toy_model: Model) -> None:
    pairs = [("x AB", "x ab"), ("y CD", "y cd"), ("z EF", "z ef")]
    vector = derive_vector(toy_model, pairs, LAYER, method="preference")
    assert along(vector.direction) > 0.95
    assert vector.lineage["trained"]["steps"] > 0
    assert vector.vector_id != derive_vector(toy_model, pairs, LAYER, method="gradient").vector_id


# -- on the real model -----------------------------------------------------------------------------------------------


def test_a_vector_of_the_real_model_works_on_its_4_bit_twin(real: Model) -> None:
    """The float model's gradient of eight pairs moves four others by 0.33 nats there, and by 0.19 on the twin."""
    concept, layer, gained = load_concept("sycophancy"), 15, []
    direction = np.zeros(0)
    with open_model("smollm2-135m-4bit") as twin:
        for model in (real, twin):
            pairs = [
                answer_pair(*(pair_prompt(model, concept, pair, side) for side in SIDES)) for pair in concept.pairs[:12]
            ]
            passes, unread = PairPasses(model, pairs[:8], pairs[8:], [layer]), np.ones((8, model.identity.width))
            given = training_at(passes, layer, unread, 0 * unread, 1.0, seed=0)
            if not len(direction):
                direction = given.unsteered.gradients.mean(axis=0)
                direction *= 20 / np.linalg.norm(direction)
            gained.append(given.validation(direction).mean())
    assert gained[0] > 0.1
    assert gained[1] > 0.4 * gained[0]
