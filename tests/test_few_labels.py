"""Few training rows have few labels: draws that all differ, p-values that they allow, and verdicts that they do not."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from steering_core.candidates.cell import NONE, Cell, Trial
from steering_core.concepts import Concept, Item, Pair
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.chance import Chance
from steering_core.evaluation.choice import Choice
from steering_core.evaluation.damage import USUAL
from steering_core.evaluation.forms import Forms
from steering_core.evaluation.recommendations import Evidence, lack_of_labels, verdict_of
from steering_core.evaluation.verdicts import TOO_FEW, WORKS
from steering_core.foundation.data_files import data_files
from steering_core.foundation.keys import seed_from
from steering_core.pipeline.discover import lacks
from steering_core.spec import Spec
from steering_core.vectors.contrast import Contrast
from steering_core.vectors.permuted import permuted_direction
from steering_core.vectors.relabelling import PERMUTED, Relabellings
from steering_core.vectors.vector import Vector

WIDTH, DRAWS = 16, 19


@pytest.mark.parametrize(
    ("n", "m", "paired", "ways", "draws"),
    [
        (1, 1, True, 2, 0),
        (2, 2, True, 4, 1),
        (5, 5, True, 32, 15),
        (6, 6, True, 64, 31),
        (1, 1, False, 2, 0),
        (3, 3, False, 20, 9),
        (2, 3, False, 10, 9),
        (1, 19, False, 20, 19),
    ],
)
def test_as_many_draws_differ_as_there_are_ways_to_label_the_rows(
    n: int, m: int, paired: bool, ways: int, draws: int
) -> None:
    labels = Relabellings(n, m, paired)
    assert (labels.n_ways, labels.n_draws) == (ways, draws)
    random = np.random.default_rng(0)
    positive, negative = random.normal(size=(n, WIDTH)), random.normal(size=(m, WIDTH))
    contrast, own = Contrast(0, positive, negative, 1.0, paired=paired), positive.mean(0) - negative.mean(0)
    seeds = labels.distinct_seeds("c", 100)
    assert len(seeds) == draws
    found = [own, *(permuted_direction("mean_difference", contrast, own, seed) for seed in seeds)]
    alike = [abs(float(a @ b)) / float(own @ own) for i, a in enumerate(found) for b in found[:i]]
    assert max(alike, default=0.0) < 0.999999  # no draw is the vector, another draw, or the opposite of either


def test_of_many_rows_the_draws_are_those_of_the_first_numbers() -> None:
    for name in sorted(data_files("concepts")):
        plain = [seed_from(PERMUTED, name, draw) for draw in range(DRAWS)]
        for n in (16, 40):
            assert Relabellings(n, n, True).distinct_seeds(name, DRAWS) == plain
        assert Relabellings(40, 15, False).distinct_seeds(name, DRAWS) == plain


def claimed(n: int, m: int, paired: bool, concepts: int) -> float:
    """The share of concepts without a meaning, searched over three layers, whose effect a verdict would believe."""
    labels, hits = Relabellings(n, m, paired), 0
    for k in range(concepts):
        random = np.random.default_rng([n, m, k])
        positive, negative = random.normal(size=(n, WIDTH)), random.normal(size=(m, WIDTH))
        contrast, own = Contrast(0, positive, negative, 1.0, paired=paired), positive.mean(0) - negative.mean(0)
        layers = random.normal(size=(3, WIDTH))
        effect = best_of(layers)
        drawn = [
            permuted_direction("mean_difference", contrast, own, seed) for seed in labels.distinct_seeds(str(k), DRAWS)
        ]
        nulls = [effect(sign * one) for one in drawn for sign in (1, -1)]
        chance = Chance.of(effect(own), [*nulls, effect(-own)], ways=labels)
        hits += chance.least_p <= 0.05 and chance.p_value <= 0.05
    return hits / concepts


def best_of(layers: np.ndarray) -> Callable[[np.ndarray], float]:
    """The effect of a direction at the layer where it is greatest."""
    return lambda direction: float((layers @ direction).max())


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_of_fewer_than_five_pairs_nothing_is_claimed(n: int) -> None:
    assert claimed(n, n, True, 40) == 0
    assert lack_of_labels(Relabellings(n, n, True))


@pytest.mark.parametrize(("n", "m", "paired"), [(5, 5, True), (6, 6, True), (3, 3, False), (2, 5, False)])
def test_p_values_of_few_rows_are_of_their_size(n: int, m: int, paired: bool) -> None:
    assert claimed(n, m, paired, 400) <= 0.075  # 5 %, and two standard errors of 400 concepts
    assert not lack_of_labels(Relabellings(n, m, paired))


def test_no_p_value_is_below_what_the_labels_allow() -> None:
    ways = Relabellings(5, 5, True)
    assert Chance.of(9.0, [0.1] * 31, ways=ways).p_value == 1 / 32
    assert Chance.of(9.0, [0.1] * 39, ways=ways).least_p == 1 / 32  # 39 draws of fewer would say 1 / 40
    few = Chance.of_few(9.0, [0.1, -0.1] * 3, 3, ways=Relabellings(4, 4, True))
    assert (few.p_value, few.least_p) == (1 / 16, 1 / 16)
    assert Chance.of(9.0, [0.1] * 39).least_p == 1 / 40
    assert Chance.of(9.0, [0.1] * 39, ways=Relabellings(5000, 5000, True)).p_value == 1 / 40


def verdict(chance: Chance) -> tuple[str, str]:
    """The verdict on a candidate that does much, beside that chance."""
    vector = Vector("0" * 20, "m" * 20, "c" * 20, "planted", 1, 1.0, direction=np.eye(8, dtype=np.float32)[0])
    chosen = Cell.adding("m" * 20, "c" * 20, "generation", [vector], [0.2])
    effect = {"score_id": "s", "value": 0.5, "ci_low": 0.3, "ci_high": 0.7, "n": 12, "n_missing": 0}
    trial = Trial(chosen, [Cell("m" * 20, "c" * 20, control=NONE), chosen])
    scores = {chosen.intervention_id: {"effect": effect, "odd_effect": effect}}
    return verdict_of(Evidence(Choice(trial, USUAL), scores, chance, Forms(), Bounds(1.5, 1.0)))


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        (
            Relabellings(2, 2, True),
            "2 training pairs can be labelled in 4 ways, which allow no p-value below 0.25: "
            "add 3 pairs to the training split",
        ),
        (
            Relabellings(4, 4, True),
            "4 training pairs can be labelled in 16 ways, which allow no p-value below 0.062: "
            "add 1 pair to the training split",
        ),
        (
            Relabellings(2, 1, False),
            "2 positive and 1 negative training text can be labelled in 3 ways, which allow no p-value below 0.33: "
            "add texts to the training split",
        ),
    ],
)
def test_a_verdict_that_few_rows_cannot_reach_says_what_to_add(ways: Relabellings, said: str) -> None:
    assert verdict(Chance.of(0.5, [-0.5] * 19, ways=ways)) == (TOO_FEW, said)
    assert verdict(Chance.of_few(0.5, [], 0, ways=ways)) == (TOO_FEW, said)
    assert verdict(Chance.of(0.5, [-0.5] * 31, ways=Relabellings(5, 5, True)))[0] == WORKS


def test_too_few_draws_are_not_laid_at_the_pairs() -> None:
    few = "1 null effect allows no p-value below 0.5: raise scores.draws or, for trained methods, vectors.controls"
    assert verdict(Chance.of(0.5, [0.1])) == (TOO_FEW, few)
    assert "9 null effects allow no p-value below 0.1:" in verdict(Chance.of(0.5, [0.1] * 9))[1]


def test_what_a_spec_derives_nothing_from_is_no_lack() -> None:
    pairs = tuple(Pair(positive=f"A{i}", negative=f"b{i}", split="train") for i in range(3))
    items = tuple(Item(prompt=f"{i}?", matching="A", not_matching="b") for i in range(20))
    concept = Concept(name="few", pairs=pairs, items=items)
    spec = Spec(models=("m",), concepts=("few",))
    assert lacks(spec, concept) == [lack_of_labels(Relabellings(3, 3, True))]
    own = spec.vectors.model_copy(update={"methods": (), "library": ("mine",)})
    assert lacks(spec.model_copy(update={"vectors": own}), concept) == []
    grid = spec.generations.model_copy(update={"expressions": ("30%*few",)})
    assert lacks(spec.model_copy(update={"generations": grid}), concept) == []
    more = concept.model_copy(update={"items": items[:3], "pairs": ()})
    assert len(lacks(spec, Concept(**more.model_dump(exclude={"pairs"}), pairs=pairs))) == 2
    assert math.comb(6, 3) == Relabellings(3, 3, False).n_ways
