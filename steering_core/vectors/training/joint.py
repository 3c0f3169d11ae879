"""Joint training: a concept's pairs at several layers of a model, and what vectors there do to them together.

Vectors are given as doses (L, D), each in units of its layer's mean residual norm, so that a layer with a louder stream
counts no more than the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steering_core.vectors.training.at_layer import Preferences, Training


@dataclass(frozen=True)
class JointTraining:
    """One `Training` for each of L layers, of the same pairs and the same seed, for a method of all layers at once.

    What a method writes into `notes` becomes part of every vector's lineage.
    """

    at: tuple[Training, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[int]:
        """The layers, ascending."""
        return [training.layer for training in self.at]

    @property
    def seed(self) -> int:
        """What order the pairs are taken in."""
        return self.at[0].seed

    @property
    def n_pairs(self) -> int:
        """Training pairs."""
        return self.at[0].n_pairs

    @property
    def pairs(self) -> np.ndarray:
        """The positive and the negative answer of each training pair, (N, 2)."""
        return self.at[0].pairs

    @property
    def validation_pairs(self) -> np.ndarray:
        """The positive and the negative answer of each validation pair, (N, 2); there may be none."""
        return self.at[0].validation_pairs

    @property
    def residual_norms(self) -> np.ndarray:
        """The mean residual norm of each layer, (L, 1)."""
        return np.array([[training.residual_norm] for training in self.at])

    @property
    def residual_norm(self) -> float:
        """1: doses are in units of it already."""
        return 1.0

    @property
    def start(self) -> np.ndarray:
        """Each layer's mean difference as a dose of 1, (L, D); zero at a layer where the sides do not differ."""
        differences = np.stack([training.start for training in self.at])
        lengths = np.linalg.norm(differences, axis=1, keepdims=True)
        return np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 0)

    @property
    def unsteered(self) -> Preferences:
        """The preferences under no vector, with their gradients with respect to the doses, (n, L, D)."""
        each = [training.unsteered for training in self.at]
        return Preferences(each[0].values, self._by_dose([one.gradients for one in each]))

    def vectors(self, doses: np.ndarray) -> np.ndarray:
        """The vectors that are added to each layer's stream at these doses: dose * residual norm, (L, D)."""
        return np.asarray(doses * self.residual_norms)

    def preferences(
        self, doses: np.ndarray, pairs: Sequence[int] | np.ndarray | None = None, signs: np.ndarray | None = None
    ) -> Preferences:
        """Preferences of `pairs`, places in `self.pairs` (default all), under signs[i] times all vectors together.

        The gradients are with respect to the doses, (n, L, D). Raises Diverged where they are not finite.
        """
        chosen = self.pairs if pairs is None else self.pairs[np.asarray(pairs)]
        values, gradients = self.at[0].passes.preferences(self._by_layer(doses), chosen, signs)
        return Preferences(values, self._by_dose([gradients[layer] for layer in self.layers]))

    def validation(self, doses: np.ndarray) -> np.ndarray:
        """Half of (preference under the vectors - preference under their opposites) of each validation pair, (n,)."""
        passes = self.at[0].passes
        return passes.odd_preferences(self._by_layer(doses), len(passes.rows) + self.validation_pairs)

    def _by_layer(self, doses: np.ndarray) -> dict[int, np.ndarray]:
        return dict(zip(self.layers, self.vectors(doses), strict=True))

    def _by_dose(self, gradients: Sequence[np.ndarray]) -> np.ndarray:
        """Gradients with respect to each layer's vector, L of (n, D), as those with respect to its dose, (n, L, D)."""
        return np.stack(gradients, axis=1) * self.residual_norms
