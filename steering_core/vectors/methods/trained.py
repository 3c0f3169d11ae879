"""Trained methods: what passes through the model, forwards and back, find in a concept's pairs. One function each.

Each takes a `Training` (`steering_core.vectors.training.at_layer`) and returns a direction (D,), or a `JointTraining`
and returns one for each of its layers (L, D). What has no length of its own, a gradient, gets the mean difference's; a
vector that was trained at a dose keeps it.
"""

from typing import TYPE_CHECKING

import numpy as np

from steering_core.vectors.linear import as_long_as, ridged
from steering_core.vectors.methods.registry import method
from steering_core.vectors.training.descent import Descent, trained

if TYPE_CHECKING:
    from steering_core.vectors.training.at_layer import Training
    from steering_core.vectors.training.joint import JointTraining

DRAWS = 2  # answers that the model draws itself for each side of a pair
RIDGE = 1.0  # of the mean variance
EPOCHS = 6  # at most, over the training pairs


@method(passes=0, shared=1, unpaired=True)
def gradient(training: "Training") -> np.ndarray:
    """Gradient of the mean preference by a vector at 0: where a small addition moves the answers most, -> (D,).

    The first-order optimum of what a steering vector is for; attribution by gradients, as in Nanda 2023 (attribution
    patching) and Simonyan et al. 2014 (saliency), with the whole layer as the feature.
    """
    return as_long_as(training.start, training.unsteered.gradients.mean(axis=0))


@method(passes=0, shared=1 + DRAWS, unpaired=True)
def natural_gradient(training: "Training") -> np.ndarray:
    """The gradient through the inverse Fisher information of the output distribution, -> (D,). Amari 1998.

    The first-order optimum at equal KL divergence from the untouched model. The Fisher information is estimated from
    `DRAWS` answers a side that the model draws itself, with a ridge of `RIDGE` times its mean variance.
    """
    slope = training.unsteered.gradients.mean(axis=0)
    return as_long_as(training.start, ridged(slope, training.drawn_gradients(DRAWS), RIDGE))


@method(passes=EPOCHS, shared=1, unpaired=True)
def preference(training: "Training") -> np.ndarray:
    """A vector trained on preferences through the frozen model, from the mean difference on, -> (D,).

    Preferences count under the vector and, mirrored, under its opposite, as in BiPO (Cao et al. 2024, "Personalized
    Steering of Large Language Models"), and per token, as in RePS (Wu et al. 2025, "Improved Representation Steering
    for Language Models"). The vector is as long as a dose of 0.2, and that of the epoch which is best on validation
    pairs (`steering_core.vectors.training.descent`).
    """
    return trained(training, Descent(epochs=EPOCHS))


@method(passes=EPOCHS, shared=1, unpaired=True, joint=True)
def joint_preference(training: "JointTraining") -> np.ndarray:
    """Vectors at several layers, trained at once as `preference` is, -> (L, D); the share of each is learned.

    They begin as the mean differences in equal shares. The length of all doses together, the root of the sum of their
    squares, is held at 0.2, so that a layer gains what the others lose.
    """
    return training.vectors(trained(training, Descent(epochs=EPOCHS)))


@method(passes=1, shared=1)
def one_shot(training: "Training") -> np.ndarray:
    """A vector trained as `preference` on the first pair alone, from its own difference on, -> (D,).

    Dunefsky and Cohan 2025.
    """
    alone = training.first_pair()
    found = trained(alone, Descent(epochs=3 * EPOCHS, batch=1))
    training.notes.update(alone.notes)
    return found
