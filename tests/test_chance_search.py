"""What chance finds on a model whose answers are known: permuted labels, controls at equal damage, ranks of draws."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steering_core.candidates.answers import neutral_answers
from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.chance import Chance, ChanceSearch, VectorPlace
from steering_core.evaluation.damage import Damage
from steering_core.evaluation.search import Search, SearchData, rivals_of
from steering_core.foundation.counting import Work
from steering_core.models import Model
from steering_core.scores.metrics import Setup
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast
from steering_core.vectors.permuted import permuted_direction
from steering_core.vectors.vector import Vector


def test_permuted_labels_leave_no_concept_on_average() -> None:
    random = np.random.default_rng(0)
    concept = np.eye(16)[0]
    positive = random.normal(0, 0.3, (40, 16)) + concept
    negative = random.normal(0, 0.3, (40, 16)) - concept
    own = positive.mean(0) - negative.mean(0)
    contrast = Contrast(0, positive, negative, 1.0)
    drawn = [permuted_direction("mean_difference", contrast, own, seed) for seed in range(60)]
    cosines = np.array([cosine_of(one, own) for one in drawn])
    assert abs(cosines.mean()) < 0.2
    assert np.abs(cosines).max() < 0.999
    assert [np.linalg.norm(one) for one in drawn] == pytest.approx([np.linalg.norm(own)] * 60)
    again = permuted_direction("mean_difference", contrast, own, 3)
    np.testing.assert_array_equal(again, drawn[3])
    blind = permuted_direction("pca_uncentred", contrast, own, 0)  # it does not see sides
    assert abs(cosine_of(blind, own)) < 0.99


def cosine_of(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def ground(tiny: Model, concept: Concept, store: Store) -> tuple[Setup, Damage]:
    setup = Setup(tiny, concept)
    texts = ("Say one thing", "Say another", "What is it?", "Why so?")
    answers = neutral_answers(tiny, store, concept, texts, GenerationsSpec(max_tokens=6), Work())
    return setup, Damage(setup, store, answers)


def directions(setup: Setup, n: int, seed: int) -> list[Cell]:
    """Random directions of a tiny model's layers, as cells of dose 0.3."""
    of, random = (setup.model.identity.model_id, setup.concept.concept_id), np.random.default_rng(seed)
    found = []
    for i in range(n):
        direction = random.standard_normal(setup.model.identity.width).astype(np.float32)
        direction *= (1 + i) / np.linalg.norm(direction)
        vector = Vector(f"{seed:02}{i:018x}", *of, "planted", 1 + i % 2, 5.0 * (1 + i % 2), direction=direction)
        found.append(Cell.adding(*of, "generation", [vector], [vector.alpha(0.3)]))
    return found


def test_every_direction_is_compared_at_the_damage_that_a_candidate_may_do(
    ground: tuple[Setup, Damage], store: Store
) -> None:
    setup, damage = ground
    bounds = Bounds(1.05, 9.0)
    on = SearchData(setup.concept.items, (), damage.answers, ("propensity", "damage"), bounds, 3)
    found = Search(setup, store, on).at_allowed(directions(setup, 4, 1))
    assert len({round(one.dose or 0, 3) for one in found}) == 4  # not the same dose
    damages = damage.of(found).mean(axis=1)
    assert damages == pytest.approx([bounds.wanted_damage()] * 4, rel=0.15)


def test_controls_do_as_much_damage_as_their_candidate(ground: tuple[Setup, Damage]) -> None:
    setup, damage = ground
    chosen = directions(setup, 1, 2)[0]
    (vector,) = chosen.vectors
    rivals = [
        replace(one.vectors[0], control="random", method=vector.method, layer=vector.layer)
        for one in directions(setup, 3, 3)
    ]
    wanted = float(damage.of([chosen]).mean())
    found = rivals_of(chosen, [vector, *rivals], len(rivals), damage)
    assert len(found) == 3
    assert damage.of(found).mean(axis=1) == pytest.approx([wanted] * 3, rel=0.25)
    assert all(one.is_control_of(chosen) for one in found)


def test_a_directions_chance_is_the_rank_of_its_effect(ground: tuple[Setup, Damage]) -> None:
    setup, damage = ground
    chosen, items = directions(setup, 1, 4)[0], setup.concept.items
    draws = [{one.vectors[0].layer: [one.vectors[0]] for one in directions(setup, 2, seed)} for seed in range(5, 12)]
    search = ChanceSearch(chosen, damage, items[:4], items[4:])
    effects = search.effects(draws)
    assert len(effects) == 14
    assert all(math.isfinite(effect) for effect in effects)
    search_again = ChanceSearch(chosen, damage, items[:4], items[4:])
    assert search_again.effects(draws) == effects
    assert search_again.measured.work.computed == 0
    assert Chance.of(1e9, [*effects] * 2).p_value == 1 / 29
    assert Chance.of_few(1e9, effects, 7).least_p == 0.0


def test_a_draw_is_searched_over_methods_as_well_and_takes_as_many_vectors_as_the_candidate(
    ground: tuple[Setup, Damage],
) -> None:
    setup, damage = ground
    one, two, three, four = (cell.vectors[0] for cell in directions(setup, 4, 40))  # at layers 1, 2, 1, 2
    draw, doses = {1: [one, three], 2: [two, four]}, {1: 0.3, 2: 0.3}
    chosen = Cell.adding(one.model_id, one.concept_id or "", "generation", [one], [one.alpha(0.3)])
    search = ChanceSearch(chosen, damage, setup.concept.items, setup.concept.items)
    places = search._ranked([draw], doses)[0, 1]
    assert sorted(places) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert search._ranked([draw], doses)[0, -1] == places[::-1]
    layer, at = places[0]
    assert search._like_chosen(draw, places, doses).vectors == (draw[layer][at],)
    for pair, shared in (((one, two), 1), ((one, three), 0)):  # two layers of one method, two methods at one layer
        of = Cell.adding(one.model_id, one.concept_id or "", "generation", pair, [0.1, 0.1])
        taken = replace(search, chosen=of)._like_chosen(draw, places, doses).vectors
        assert taken[0] is draw[layer][at]
        where = [next(place for place in places if draw[place[0]][place[1]] is vector) for vector in taken]
        assert len({place[shared] for place in where}) == 1
        assert len({place[1 - shared] for place in where}) == 2


def test_draws_are_ranked_by_gradients_or_else_by_measuring(
    ground: tuple[Setup, Damage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup, damage = ground
    chosen, items = directions(setup, 1, 4)[0], setup.concept.items
    draws = [{one.vectors[0].layer: [one.vectors[0]] for one in directions(setup, 2, seed)} for seed in range(20, 30)]
    small = chosen.at(0.01)

    def ranked() -> dict[tuple[int, int], list[VectorPlace]]:
        search = ChanceSearch(small, damage, items, items)
        return search._ranked(draws, dict.fromkeys(draws[0], 0.01))

    foreseen = ranked()
    assert len({tuple(layers) for layers in foreseen.values()}) > 1

    def grad(along: Any) -> Any:
        raise ValueError("[Primitive::vjp] Not implemented for Kernel.")

    monkeypatch.setattr("steering_core.engine.gradients.mx.grad", grad)
    monkeypatch.setattr("steering_core.scores.measure.MEASUREMENTS_VERSION", 99)  # nothing is found in the store
    with caplog.at_level("INFO"):
        measured = ranked()
    assert "cannot differentiate" in caplog.text
    assert foreseen == measured  # so small a dose acts to first order


def test_p_values_of_the_search_are_of_their_size() -> None:
    """An effect that is one draw among its nulls is below 5 % in one of twenty."""
    random = np.random.default_rng(0)
    hits = []
    for _ in range(600):
        nulls = random.normal(size=19)
        opposite = random.normal()
        hits.append(Chance.of(opposite, [*nulls, *-nulls, -opposite]).p_value <= 0.05)
    assert 0.03 <= np.mean(hits) <= 0.07
