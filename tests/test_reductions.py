"""Reductions agree with NumPy in float64, by MLX's operations here and by kernels where there is CUDA."""

import numpy as np
import pytest

from steering_core.activations.reductions import in_own_buffer, norms_of, weighted_sums
from steering_core.backend.mlx import mx

SHAPES = [(7, 33, 576, 3), (3, 5, 130, 2), (1, 1, 64, 1), (2, 3, 65, 1)]  # rows, tokens, width (odd too), choices


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize(("rows", "length", "width", "choices"), SHAPES)
def test_reductions_accumulate_in_float32(dtype: mx.Dtype, rows: int, length: int, width: int, choices: int) -> None:
    """Whatever the stream's type: only what it holds is rounded, never what is summed."""
    drawn = np.random.default_rng(width)
    h = mx.array(30 * drawn.standard_normal((rows, length, width))).astype(dtype)
    weights = drawn.uniform(size=(rows, choices, length)).astype(np.float32)
    exact = np.array(h.astype(mx.float32), np.float64)
    np.testing.assert_allclose(np.array(norms_of(h)), np.linalg.norm(exact, axis=-1), rtol=1e-6)
    sums = weights.astype(np.float64) @ exact
    np.testing.assert_allclose(np.array(weighted_sums(mx.array(weights), h)), sums, atol=1e-6 * np.abs(sums).max())


def test_norms_of_float16_do_not_overflow() -> None:
    """Squares of 300 are beyond float16."""
    assert norms_of(mx.full((1, 2, 64), 300.0, mx.float16)).tolist() == [[2400.0, 2400.0]]


def test_apart_changes_no_value() -> None:
    """It is about where the array lies."""
    x = mx.array(np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32))
    assert mx.array_equal(in_own_buffer(x), x)
    assert in_own_buffer(x).shape == x.shape
