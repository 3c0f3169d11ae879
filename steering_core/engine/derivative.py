"""Derivatives of what a model computes, where MLX has them."""

from collections.abc import Callable, Sequence

from steering_core.backend.mlx import mx
from steering_core.foundation.errors import NoGradient
from steering_core.models import Model

_MISSING = "ot implemented"  # how MLX names an operation without a gradient


def gradient_of(
    model: Model, number: Callable[[Sequence[mx.array]], mx.array], at: Sequence[mx.array]
) -> list[mx.array]:
    """The gradient of a number that `model` computes, by each array of `at`. Raises NoGradient."""
    try:
        found: list[mx.array] = mx.grad(number)(list(at))
        mx.eval(found)
    except ValueError as error:
        if _MISSING not in str(error):
            raise
        raise NoGradient(
            f"MLX cannot differentiate {model.name} ({model.identity.architecture}: {error}): take methods that read "
            "activations, such as mean_difference"
        ) from error
    return found
