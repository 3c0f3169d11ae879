"""Real numbers: what somebody gives as a direction, as float32."""

from typing import Any

import numpy as np

from steering_core.foundation.errors import VectorError

_OTHERS = {
    "c": "holds complex numbers: give real ones, such as direction.real",
    "b": "holds truth values: give numbers, such as direction.astype(float)",
    **dict.fromkeys("SU", "is no list of numbers: it holds texts"),
}
"""What is said of arrays that NumPy would turn into real numbers, by the kind of their type."""


def real_numbers(direction: Any) -> np.ndarray:
    """The direction as float32. Raises VectorError for what is no array of real numbers."""
    given = f"a direction of type {type(direction).__name__}"
    try:
        if others := _OTHERS.get(np.asarray(direction).dtype.kind):
            raise VectorError(f"{given} {others}")
        return np.asarray(direction, np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError(f"{given} is no list of numbers: {error}") from None
