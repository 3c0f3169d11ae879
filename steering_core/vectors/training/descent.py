"""Descent: a vector of fixed length, trained on preferences under it and, mirrored, under its opposite.

Vectors of several layers are trained as one, (L, D), whose length is that of all together.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from steering_core.vectors.training.at_layer import Training
    from steering_core.vectors.training.joint import JointTraining  # passes need MLX, which names of methods do not

_DECAYS = 0.9, 0.99  # of Adam's running means
_LOSS_DIGITS = 5
_LEAST_STEPS = 4  # in an epoch of at least as many pairs


@dataclass(frozen=True)
class Descent:
    """How a vector is trained: `epochs` times over the pairs, at most `batch` of them a step, its length at a `dose`.

    `rate` is how far a step turns the vector, relative to its length; `sharpness` multiplies a change of preference in
    nats before the logistic loss, so that with a small one all pairs count alike and with a large one those that still
    go the wrong way. Training ends where validation pairs have gained nothing for `patience` epochs.
    """

    epochs: int = 6
    batch: int = 10
    dose: float = 0.2
    rate: float = 0.15
    sharpness: float = 2.0
    patience: int = 2


def trained(training: "Training | JointTraining", how: Descent | None = None) -> np.ndarray:
    """The vector (D,), or vectors (L, D), after the epoch that is best on validation pairs, or else after the last.

    A pair's loss is that of BiPO (Cao et al. 2024) per token: log(1 + exp(-s w c)), where c is the change of its
    preference, w the sign (1, or -1 under the mirrored vector) and s the sharpness. Adam (Kingma and Ba 2015) turns the
    vector from the mean difference on. The loss curve goes into the training's notes.
    """
    how = how or Descent()
    if not training.start.any():
        return training.start  # zero: there is no direction to turn
    random, length = np.random.default_rng(training.seed), how.dose * training.residual_norm
    vector = length * training.start / np.linalg.norm(training.start)
    base, best, held_out = training.unsteered.values, vector, len(training.validation_pairs) > 0
    gains = [_gain(training, vector)] if held_out else []
    means, steps, losses = np.zeros((2, *vector.shape)), 0, list[float]()
    batch = max(1, min(how.batch, training.n_pairs // _LEAST_STEPS))
    signs = np.where(random.permutation(training.n_pairs) % 2, 1.0, -1.0)
    for _ in range(how.epochs):
        order, total = random.permutation(training.n_pairs), 0.0
        for pairs in np.split(order, range(batch, len(order), batch)):
            steps += 1
            loss, slope = _loss(training, vector, pairs, signs[pairs], base[pairs], how.sharpness)
            vector = _turned(vector, slope, means, steps, how.rate)
            total += loss * len(pairs)
        signs = -signs  # each pair sees the vector and its opposite in turn
        losses.append(round(total / len(order), _LOSS_DIGITS))
        gains += [_gain(training, vector)] if held_out else []
        if not gains or gains[-1] >= max(gains):
            best = vector
        elif len(gains) - 1 - int(np.argmax(gains)) >= how.patience:
            break
    training.notes.update(asdict(how), steps=steps, start="mean_difference", losses=losses, validation=gains)
    return best


def _gain(training: "Training | JointTraining", vector: np.ndarray) -> float:
    """The mean preference that the validation pairs gain under the vector, in nats."""
    return round(float(training.validation(vector).mean()), _LOSS_DIGITS)


def _loss(
    training: "Training | JointTraining",
    vector: np.ndarray,
    pairs: np.ndarray,
    signs: np.ndarray,
    base: np.ndarray,
    sharpness: float,
) -> tuple[float, np.ndarray]:
    """The mean loss of some pairs, each under its sign times the vector, and its gradient, of the vector's shape."""
    found = training.preferences(vector, pairs, signs)
    gained = sharpness * signs * (found.values - base)
    slopes = -sharpness * signs / (1 + np.exp(gained))  # of each pair's loss by its preference
    gradients = slopes.reshape(-1, *[1] * vector.ndim) * found.gradients  # (n, ...)
    return float(np.logaddexp(0, -gained).mean()), gradients.mean(axis=0)


def _turned(vector: np.ndarray, slope: np.ndarray, means: np.ndarray, step: int, rate: float) -> np.ndarray:
    """The vector after one step of Adam along the sphere of its length; `means` (2, …) are Adam's, changed in place."""
    length = np.linalg.norm(vector)
    along = slope - vector * np.vdot(slope, vector) / length**2
    for mean, decay, new in zip(means, _DECAYS, (along, along**2), strict=True):
        mean += (1 - decay) * (new - mean)
    first, second = (mean / (1 - decay**step) for mean, decay in zip(means, _DECAYS, strict=True))
    size = rate * length / np.sqrt(vector.size)
    moved = vector - size * first / (np.sqrt(second) + 1e-12)  # so that 0 / 0 is 0
    return np.asarray(moved * (length / np.linalg.norm(moved)))
