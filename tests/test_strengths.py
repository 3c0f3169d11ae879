"""What an expression's names mean in words: layers, alphas and doses."""

import numpy as np
import pytest

from steering_core.interventions.parsing import parse
from steering_core.vectors.strengths import strengths_in_words
from steering_core.vectors.vector import Vector


def along(layer: int, recommended: float | None = None, residual_norm: float = 10.0) -> Vector:
    """A vector of norm 5: alpha 1 is a dose of 0.5."""
    direction = np.array([3.0, 4.0], np.float32)
    return Vector(
        f"{layer:020x}", "m", None, "given", layer, residual_norm, direction=direction, recommended=recommended
    )


SHELF = {
    "calm": (along(3, 0.6),),
    "both": (along(1, 0.6), along(2, 0.2)),
    "raw": (along(4, residual_norm=0.0),),
}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("calm", "calm at layer 3 with alpha 0.6, dose 0.3"),
        ("-calm", "calm at layer 3 with alpha -0.6, dose -0.3"),
        ("30%*calm @all", "calm at layer 3 with alpha 0.6, dose 0.3"),
        ("2*calm", "calm at layer 3 with alpha 2, dose 1"),
        ("both", "both at layer 1 with alpha 0.6, dose 0.3, layer 2 with alpha 0.2, dose 0.1"),
        ("40%*both", "both at layer 1 with alpha 0.6, dose 0.3, layer 2 with alpha 0.2, dose 0.1"),
        ("calm - raw", "calm at layer 3 with alpha 0.6, dose 0.3; raw at layer 4 with alpha -1"),
        ("ablate(calm)", ""),
    ],
)
def test_names_are_said_with_layers_and_strengths(expression: str, said: str) -> None:
    assert strengths_in_words(parse(expression), SHELF.__getitem__, 8) == said
