"""Training at one layer: a concept's pairs there, and what a vector does to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steering_core.vectors.training.pair_passes import PairPasses, differences
from steering_core.vectors.training.pairs import AnswerSides, answer_pairs


@dataclass(frozen=True)
class Preferences:
    """Preferences of n pairs, (n,) in nats, and their gradients with respect to the vector, (n, D) or (n, L, D)."""

    values: np.ndarray
    gradients: np.ndarray


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
        return Preferences(differences(values[self.pairs]), differences(gradients[self.layer][self.pairs]))

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
