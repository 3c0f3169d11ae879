"""Training: what a trained method is given, a concept's pairs at one layer of a model and what passes say of a vector.

Preference is the mean log-probability per token of a pair's positive answer minus its negative one's, in nats, as the
metric propensity has it for held-out items. An addition acts from the prompt's last token on (phase `generation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from steering_core.engine.gradients import Answer, Answers
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged
from steering_core.foundation.keys import seed_from
from steering_core.models import Model
from steering_core.prompts import Prompt

AnswerPair = tuple[Answer, Answer]
"""A pair's positive and negative answer, to one prompt as a rule."""


@dataclass(frozen=True)
class Preferences:
    """The preference of n pairs under a vector, (n,) in nats, and its gradients by the vector, (n, D)."""

    values: np.ndarray
    gradients: np.ndarray


def answer_pair(positive: Prompt, negative: Prompt) -> AnswerPair:
    """The sides of a pair as answers from one common start; bare texts begin where they part.

    Raises PromptError for a text without a second token.
    """
    sides = positive.tokens, negative.tokens
    start, shortest = min(positive.response_start, negative.response_start), min(map(len, sides))
    if start >= shortest:
        shared = next((i for i, (a, b) in enumerate(zip(*sides, strict=False)) if a != b), shortest)
        start = shared if shared < shortest else 1
    one, other = (Answer(tokens, max(1, start)) for tokens in sides)
    return one, other


class PairPasses:
    """A concept's pairs, read once by a model for vectors at any of `layers`; what needs no vector is kept for all.

    `validation` pairs say when to stop; there may be none.
    """

    def __init__(
        self, model: Model, train: Sequence[AnswerPair], validation: Sequence[AnswerPair], layers: Sequence[int]
    ) -> None:
        self.model, self.train, self.validation = model, tuple(train), tuple(validation)
        self.layers = model.checked_layers(list(layers))
        self.work = Work()
        self._drawn: dict[int, dict[int, np.ndarray]] = {}

    @cached_property
    def answers(self) -> Answers:
        """Both sides of the training pairs, then of the validation pairs."""
        sides = [answer for pair in (*self.train, *self.validation) for answer in pair]
        return Answers(self.model, sides, self.layers, self.work)

    @cached_property
    def unsteered(self) -> dict[int, Preferences]:
        """The training pairs' preferences under no vector, with gradients, for every layer from one backward pass."""
        n = 2 * len(self.train)
        found = self.answers.gradients(range(n), self._zeros(n))
        return {
            layer: Preferences(_differences(found.values), _differences(gradients))
            for layer, gradients in found.by_layer.items()
        }

    def drawn_gradients(self, draws: int) -> dict[int, np.ndarray]:
        """For every layer gradients (2 n draws, D) of answers that the model draws itself, token by token.

        Their mean square is the Fisher information of the output distribution about a vector there.
        """
        if draws not in self._drawn:
            n, seed = 2 * len(self.train), seed_from("drawn", [pair[0].tokens for pair in self.train])
            found = [self.answers.gradients(range(n), self._zeros(n), drawn=seed + i).by_layer for i in range(draws)]
            self._drawn[draws] = {layer: np.concatenate([each[layer] for each in found]) for layer in self.layers}
        return self._drawn[draws]

    def _zeros(self, n: int) -> dict[int, np.ndarray]:
        return {layer: np.zeros((n, self.model.identity.width), np.float32) for layer in self.layers}


@dataclass(frozen=True)
class Training:
    """Pairs at one layer, for a method that asks the model what a vector (D,) there does to them.

    `differences` (N, D) are the pairs' activations, positive minus negative; `labels` (N,) and `validation_labels` are
    1, or -1 for a pair whose sides are exchanged, as half of a control's are: `start`, `unsteered`, `preferences` and
    `validation` heed them. What a method writes into `notes` becomes part of the vector's lineage.
    """

    passes: PairPasses
    layer: int
    differences: np.ndarray
    residual_norm: float
    seed: int
    labels: np.ndarray
    validation_labels: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """Training pairs."""
        return len(self.labels)

    @property
    def start(self) -> np.ndarray:
        """The pairs' mean difference, (D,)."""
        return np.asarray((self.labels[:, None] * self.differences).mean(axis=0))

    @property
    def unsteered(self) -> Preferences:
        """The preferences under no vector."""
        found, n = self.passes.unsteered[self.layer], self.n_pairs
        return self._labelled(Preferences(found.values[:n], found.gradients[:n]), np.arange(n))

    def preferences(
        self, vector: np.ndarray, pairs: Sequence[int] | np.ndarray | None = None, ways: np.ndarray | None = None
    ) -> Preferences:
        """Preferences of the pairs at those places (all) under the vector, or under `ways` (n,) times it.

        The gradients are by the vector. Raises Diverged where they are not finite.
        """
        places = np.arange(self.n_pairs) if pairs is None else np.asarray(pairs)
        ways = np.ones(len(places)) if ways is None else ways
        sides = (2 * places[:, None] + np.arange(2)).reshape(-1)
        added = np.repeat(ways, 2)[:, None] * vector
        found = self.passes.answers.gradients(sides.tolist(), {self.layer: added.astype(np.float32)})
        by_vector = _differences(found.by_layer[self.layer]) * ways[:, None]
        kept = self._labelled(Preferences(_differences(found.values), by_vector), places)
        if not (np.isfinite(kept.values).all() and np.isfinite(kept.gradients).all()):
            raise Diverged(f"a vector {np.linalg.norm(vector):.3g} long at layer {self.layer} makes logits overflow")
        return kept

    def validation(self, vector: np.ndarray) -> np.ndarray:
        """Half of the preference under the vector minus that under its opposite, of each validation pair, (n,)."""
        begin, n = 2 * len(self.passes.train), 2 * len(self.validation_labels)
        rows = [*range(begin, begin + n)] * 2
        added = np.repeat([1.0, -1.0], n)[:, None] * vector
        found = self.passes.answers.log_probabilities(rows, {self.layer: added.astype(np.float32)})
        up, down = np.split(_differences(found), 2)
        return self.validation_labels * (up - down) / 2

    def drawn_gradients(self, draws: int) -> np.ndarray:
        """Gradients (2 N draws, D) of answers that the model draws itself (`PairPasses.drawn_gradients`)."""
        return self.passes.drawn_gradients(draws)[self.layer]

    def first_pair(self) -> "Training":
        """The first training pair alone, and no validation pairs; its notes are its own."""
        return replace(
            self,
            differences=self.differences[:1],
            labels=self.labels[:1],
            validation_labels=self.validation_labels[:0],
            notes={},
        )

    def _labelled(self, found: Preferences, places: np.ndarray) -> Preferences:
        labels = self.labels[places]
        return Preferences(labels * found.values, labels[:, None] * found.gradients)


def training_at(
    passes: PairPasses,
    layer: int,
    positive: np.ndarray,
    negative: np.ndarray,
    residual_norm: float,
    seed: int,
    shuffled: int | None = None,
) -> Training:
    """What a method is given at a layer, from the training pairs' activations (N, D) there.

    With a seed in `shuffled` half of the pairs, of the validation pairs as well, have their sides exchanged.
    """
    labels, there = (dealt_labels(len(pairs), shuffled) for pairs in (passes.train, passes.validation))
    return Training(passes, layer, positive.astype(np.float64) - negative, residual_norm, seed, labels, there)


def dealt_labels(n: int, seed: int | None) -> np.ndarray:
    """1 for n pairs as they are; with a seed -1 for half of them, at random, (n,)."""
    labels = np.ones(n)
    if seed is not None:
        labels[np.random.default_rng(seed).permutation(n)[: n // 2]] = -1
    return labels


def _differences(values: np.ndarray) -> np.ndarray:
    """(2n, ...) of positive and negative sides in turn -> (n, ...)."""
    return values[0::2] - values[1::2]
