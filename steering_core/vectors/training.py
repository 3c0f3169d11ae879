"""Training: a concept's pairs at one layer of a model, and the passes that say what a vector there does to them.

The preference of a pair is the mean log-probability per token of its positive answer minus that of its negative one, in
nats: the metric propensity of training pairs. A vector is added from the prompt's last token on (phase `generation`).

Unpaired texts are paired at random: each text of the larger side once, those of the smaller as evenly as can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged
from steering_core.foundation.keys import seed_from
from steering_core.foundation.sequences import common_length
from steering_core.models import Model
from steering_core.prompts import Prompt
from steering_core.vectors.shuffling import mixed_sides, n_moved

AnswerPair = tuple[GivenAnswer, GivenAnswer]
"""A pair's positive and negative answer; nearly always to the same prompt."""


@dataclass(frozen=True)
class AnswerSides:
    """Positive and negative answers that are not paired."""

    positive: tuple[GivenAnswer, ...]
    negative: tuple[GivenAnswer, ...]


SplitAnswers = Sequence[AnswerPair] | AnswerSides
"""A concept's answers in one split: pairs, or unpaired answers of either side."""


def answer_rows(answered: SplitAnswers) -> list[GivenAnswer]:
    """The answers one after another: both of each pair in turn, or one side and then the other."""
    if isinstance(answered, AnswerSides):
        return [*answered.positive, *answered.negative]
    return [answer for pair in answered for answer in pair]


def answer_pairs(answered: SplitAnswers, seed: int | None = None) -> np.ndarray:
    """The indices in `answer_rows` of the positive and the negative answer of each pair, (n, 2).

    With a seed the labels are shuffled: half of the pairs have their sides exchanged, and unpaired answers change sides
    until either side has the same share of positive ones. There is no pair where a side of unpaired answers is empty.
    """
    if isinstance(answered, AnswerSides):
        return _random_pairs(len(answered.positive), len(answered.negative), seed)
    pairs = np.arange(2 * len(answered)).reshape(-1, 2)
    if seed is not None:
        exchanged = np.random.default_rng(seed).permutation(len(pairs))[: len(pairs) // 2]
        pairs[exchanged] = pairs[exchanged, ::-1]
    return pairs


def _random_pairs(n: int, m: int, seed: int | None) -> np.ndarray:
    """Random pairs of n positive rows and the m negative ones after them, (max(n, m), 2); a seed shuffles labels."""
    if n == 0 or m == 0:
        return np.empty((0, 2), int)
    random = np.random.default_rng(0 if seed is None else seed)
    sides = mixed_sides(n, m, 0 if seed is None else n_moved(n, m), random)
    return np.stack([np.resize(side, max(n, m)) for side in sides], axis=1)


@dataclass(frozen=True)
class Preferences:
    """Preferences of n pairs, (n,) in nats, and their gradients with respect to the vector, (n, D) or (n, L, D)."""

    values: np.ndarray
    gradients: np.ndarray


def answer_pair(positive: Prompt, negative: Prompt) -> AnswerPair:
    """The sides of a pair as answers that start at the same token; in bare texts it is the first in which they differ.

    Raises PromptError for a text without a second token.
    """
    sides = positive.tokens, negative.tokens
    start, shortest = min(positive.response_start, negative.response_start), min(map(len, sides))
    if start >= shortest:
        shared = common_length(*sides)
        start = shared if shared < shortest else 1
    one, other = (GivenAnswer(tokens, max(1, start)) for tokens in sides)
    return one, other


def lone_answer(text: Prompt) -> GivenAnswer:
    """An unpaired text as an answer; in a bare text it starts at the second token.

    Raises PromptError for a text without a second token.
    """
    start = text.response_start
    return GivenAnswer(text.tokens, max(1, start) if start < len(text.tokens) else 1)


def split_answers(positive: Sequence[Prompt], negative: Sequence[Prompt], paired: bool) -> SplitAnswers:
    """The prompts of either side of a split as answers: of pairs, or unpaired."""
    if paired:
        return list(map(answer_pair, positive, negative))
    return AnswerSides(tuple(map(lone_answer, positive)), tuple(map(lone_answer, negative)))


class PairPasses:
    """A concept's answers and the passes of a model over them, for vectors at any of `layers`.

    What is computed without a vector is computed once for all layers and methods. `validation` answers say when
    training stops; there may be none.
    """

    def __init__(self, model: Model, train: SplitAnswers, validation: SplitAnswers, layers: Sequence[int]) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.rows = answer_rows(train)
        self.layers = model.checked_layers(list(layers))
        self.work = Work()
        self._drawn: dict[int, dict[int, np.ndarray]] = {}

    @cached_property
    def answers(self) -> GivenAnswers:
        """The answers for training, then those for validation."""
        return GivenAnswers(self.model, [*self.rows, *answer_rows(self.validation)], self.layers, self.work)

    @cached_property
    def unsteered(self) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The training answers' mean log-probabilities under no vector, (R,) in nats per token, and their gradients.

        The gradients are with respect to an addition at each layer, (R, D) by layer, all from one backward pass.
        """
        n = len(self.rows)
        found = self.answers.gradients(range(n), self._zeros(n))
        return found.values, dict(found.by_layer)

    def drawn_gradients(self, draws: int) -> dict[int, np.ndarray]:
        """By layer, gradients (R * draws, D) of the log-probability of answers that the model draws itself.

        Their mean outer product estimates the Fisher information of the output distribution about a vector there.
        """
        if draws not in self._drawn:
            n, firsts = len(self.rows), [self.rows[row].tokens for row in np.unique(answer_pairs(self.train)[:, 0])]
            seed = seed_from("drawn", firsts)
            found = [self.answers.gradients(range(n), self._zeros(n), drawn=seed + i).by_layer for i in range(draws)]
            self._drawn[draws] = {layer: np.concatenate([each[layer] for each in found]) for layer in self.layers}
        return self._drawn[draws]

    def preferences(
        self, vectors: Mapping[int, np.ndarray], pairs: np.ndarray, signs: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Preferences (n,) in nats of `pairs` (n, 2) under all `vectors` (D,) together, and their gradients.

        The gradients are with respect to each layer's vector, (n, D) by layer. Pair i is run under signs[i] times the
        vectors. Raises Diverged where anything is not finite.
        """
        signs = np.ones(len(pairs)) if signs is None else signs
        both = np.repeat(signs, 2)[:, None]
        added = {layer: (both * vector).astype(np.float32) for layer, vector in vectors.items()}
        found = self.answers.gradients(pairs.reshape(-1).tolist(), added)
        values = _differences(_by_pair(found.values))
        gradients = {layer: _differences(_by_pair(found.by_layer[layer])) * signs[:, None] for layer in vectors}
        for layer, vector in vectors.items():
            if not (np.isfinite(values).all() and np.isfinite(gradients[layer]).all()):
                raise Diverged(f"a vector {np.linalg.norm(vector):.3g} long at layer {layer} makes logits overflow")
        return values, gradients

    def odd_preferences(self, vectors: Mapping[int, np.ndarray], pairs: np.ndarray) -> np.ndarray:
        """Half of (preference under the vectors - preference under their opposites) of each of `pairs` (n, 2), (n,)."""
        rows = pairs.reshape(-1).tolist()
        both = np.repeat([1.0, -1.0], len(rows))[:, None]
        added = {layer: (both * vector).astype(np.float32) for layer, vector in vectors.items()}
        found = self.answers.log_probabilities(rows * 2, added)
        up, down = np.split(_differences(_by_pair(found)), 2)
        return np.asarray((up - down) / 2)

    def _zeros(self, n: int) -> dict[int, np.ndarray]:
        return {layer: np.zeros((n, self.model.identity.width), np.float32) for layer in self.layers}


@dataclass(frozen=True)
class Training:
    """Pairs at one layer, for a method that asks the model what a vector (D,) there does to them.

    `activations` (R, D) are those of the training answers. `pairs` (N, 2) and `validation_pairs` say which answer is
    the positive and which the negative one of each pair (`answer_pairs`); for a control their labels are shuffled. What
    a method writes into `notes` becomes part of the vector's lineage.
    """

    passes: PairPasses
    layer: int
    activations: np.ndarray
    residual_norm: float
    seed: int
    pairs: np.ndarray
    validation_pairs: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """Training pairs."""
        return len(self.pairs)

    @property
    def start(self) -> np.ndarray:
        """The mean difference of the positive and the negative answers, (D,)."""
        positive, negative = (self.activations[np.unique(rows)] for rows in self.pairs.T)
        return np.asarray(positive.mean(axis=0) - negative.mean(axis=0))

    @property
    def unsteered(self) -> Preferences:
        """The preferences under no vector."""
        values, gradients = self.passes.unsteered
        return Preferences(_differences(values[self.pairs]), _differences(gradients[self.layer][self.pairs]))

    def preferences(
        self, vector: np.ndarray, pairs: Sequence[int] | np.ndarray | None = None, signs: np.ndarray | None = None
    ) -> Preferences:
        """Preferences of `pairs`, places in `self.pairs` (default all), under signs[i] times the vector.

        The gradients are with respect to the vector. Raises Diverged where they are not finite.
        """
        chosen = self.pairs if pairs is None else self.pairs[np.asarray(pairs)]
        values, gradients = self.passes.preferences({self.layer: vector}, chosen, signs)
        return Preferences(values, gradients[self.layer])

    def validation(self, vector: np.ndarray) -> np.ndarray:
        """Half of (preference under the vector - preference under its opposite) of each validation pair, (n,)."""
        return self.passes.odd_preferences({self.layer: vector}, len(self.passes.rows) + self.validation_pairs)

    def drawn_gradients(self, draws: int) -> np.ndarray:
        """Gradients (R draws, D) of answers that the model draws itself (`PairPasses.drawn_gradients`)."""
        return self.passes.drawn_gradients(draws)[self.layer]

    def first_pair(self) -> "Training":
        """The first training pair alone, and no validation pairs; its notes are its own."""
        return replace(self, pairs=self.pairs[:1], validation_pairs=self.validation_pairs[:0], notes={})


def training_at(
    passes: PairPasses,
    layer: int,
    positive: np.ndarray,
    negative: np.ndarray,
    residual_norm: float,
    seed: int,
    shuffled: int | None = None,
) -> Training:
    """The `Training` at a layer, from the training answers' activations (N, D), (M, D) there.

    `shuffled` is a seed that shuffles the labels of training and validation answers (`answer_pairs`), or None.
    """
    sides = [positive.astype(np.float64), negative.astype(np.float64)]
    paired = not isinstance(passes.train, AnswerSides)
    rows = np.stack(sides, axis=1).reshape(-1, positive.shape[1]) if paired else np.concatenate(sides)  # (R, D)
    pairs, there = (answer_pairs(answered, shuffled) for answered in (passes.train, passes.validation))
    return Training(passes, layer, rows, residual_norm, seed, pairs, there)


def _by_pair(values: np.ndarray) -> np.ndarray:
    """(2n, ...) of positive and negative answers in turn -> (n, 2, ...)."""
    return values.reshape(-1, 2, *values.shape[1:])


def _differences(values: np.ndarray) -> np.ndarray:
    """Positive minus negative, (n, 2, ...) -> (n, ...)."""
    return values[:, 0] - values[:, 1]
