"""Methods: how a concept's pairs become a direction. One function each, registered by name, of one of two kinds.

A method takes the activations of the positive and of the negative sides, (N, D) each with row i of both from pair i,
as float64, and returns a direction (D,). One unit of alpha is one such vector, so its length counts: differences keep
their own length; a component, or a probe's weights, gets the length of the mean difference. A method that reads either
side as a whole declares `@method(unpaired=True)`: it is then given texts without partners too, (N, D), (M, D).

    @method
    def median_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
        return np.median(positive - negative, axis=0)

A trained method takes a `Training` (`steering_core.vectors.training.at_layer`) instead: the model and the pairs'
prompts at one layer, and what passes through the model say of a vector there. It declares how many passes over the
pairs it takes:

    @method(passes=1)
    def steepest(training: Training) -> np.ndarray:
        return training.preferences(np.zeros_like(training.start)).gradients.mean(axis=0)

With `joint=True` it takes a `JointTraining` (`steering_core.vectors.training.joint`), the same at several layers at
once, and returns a direction for each of them, (L, D), which act together.

A method may lie in a file of your own: a spec or `--method` names it as `FILE.py:median_difference`.

`derived` and `trained` are steerflow's own of either kind, `registry` holds every method by name, and `named` finds and
applies one.
"""

from steering_core.vectors.methods import trained
from steering_core.vectors.methods.derived import mean_difference
from steering_core.vectors.methods.named import (
    checked_direction,
    derived_direction,
    faults_named,
    method_key,
    method_name,
    methods_only_from,
)
from steering_core.vectors.methods.registry import (
    METHODS,
    TRAINED,
    UNPAIRED,
    TrainedMethod,
    check_unpaired,
    is_joint,
    is_trained,
    known_methods,
    method,
    method_meanings,
    refuse_unpaired,
)

__all__ = [
    "METHODS",
    "TRAINED",
    "UNPAIRED",
    "TrainedMethod",
    "check_unpaired",
    "checked_direction",
    "derived_direction",
    "faults_named",
    "is_joint",
    "is_trained",
    "known_methods",
    "mean_difference",
    "method",
    "method_key",
    "method_meanings",
    "method_name",
    "methods_only_from",
    "refuse_unpaired",
    "trained",
]
