"""Passes over a concept's answers: what vectors at some layers do to the preference of each pair.

The preference of a pair is the mean log-probability per token of its positive answer minus that of its negative one, in
nats: the metric propensity of training pairs. A vector is added from the prompt's last token on (phase `generation`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from steering_core.engine.gradients import GivenAnswers
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged
from steering_core.foundation.keys import seed_from
from steering_core.models import Model
from steering_core.vectors.training.pairs import SplitAnswers, answer_pairs, answer_rows


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
        values = differences(_by_pair(found.values))
        gradients = {layer: differences(_by_pair(found.by_layer[layer])) * signs[:, None] for layer in vectors}
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
        up, down = np.split(differences(_by_pair(found)), 2)
        return np.asarray((up - down) / 2)

    def _zeros(self, n: int) -> dict[int, np.ndarray]:
        return {layer: np.zeros((n, self.model.identity.width), np.float32) for layer in self.layers}


def _by_pair(values: np.ndarray) -> np.ndarray:
    """(2n, ...) of positive and negative answers in turn -> (n, 2, ...)."""
    return values.reshape(-1, 2, *values.shape[1:])


def differences(values: np.ndarray) -> np.ndarray:
    """Positive minus negative, (n, 2, ...) -> (n, ...)."""
    return values[:, 0] - values[:, 1]
