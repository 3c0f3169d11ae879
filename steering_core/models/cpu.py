"""What a CPU lacks: MLX's `exp` is scalar code there, and costs a forward pass as much as its products do.

Here exp is a polynomial built of operations that are vectorised, exact to 3e-7, and fused by `mx.compile` where there
is a C++ compiler. `steering_core.models.mlx_lm` puts these functions in the place of MLX's own on a CPU.
"""

import contextlib
import ctypes
import math
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

from steering_core.backend.mlx import mx

_COEFFICIENTS = (  # of 2^f for f in [-1/2, 1/2], after 1: the polynomial whose largest relative error is least, 1e-7
    0.6931470036506653,
    0.24022242426872253,
    0.05550733581185341,
    0.009671512991189957,
    0.001326472731307149,
)

_ROUNDS = 1.5 * 2**23  # a float32 of this size has no room for fractions: adding and subtracting it rounds
_FEW = 8_192  # scores of which MLX's scalar exp costs less than the calls of a polynomial's parts (docs/log.md)
_NEGLIGIBLE = -40.0  # e to this power is lost beside 1 in float32
_MALLOPT = {-3: 256 << 20, -1: 1 << 30, -2: 64 << 20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
_WITH_GRADIENTS: ContextVar[bool] = ContextVar("passes with gradients", default=False)


def keep_freed_memory() -> None:
    """Have glibc keep up to a gigabyte of what was freed for what comes next; elsewhere nothing is done.

    MLX has no pool of its own on a CPU: each array of a pass would be new pages, which the kernel clears first.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in _MALLOPT.items():
            library.mallopt(option, value)


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Have these functions be differentiable inside the `with`: not compiled, and with a gradient for `exp`.

    MLX has no gradient for reading bits as another type, and none for what it compiled.
    """
    token = _WITH_GRADIENTS.set(True)
    try:
        yield
    finally:
        _WITH_GRADIENTS.reset(token)


def exp(x: mx.array) -> mx.array:
    """e^x in float32, relative error below 3e-7; below -87 and above 87 it stays at those values."""
    found: mx.array = _differentiable_exp(x) if _WITH_GRADIENTS.get() else _polynomial_exp(x)
    return found


def _polynomial_exp(x: mx.array) -> mx.array:
    power = mx.clip(x * math.log2(math.e), -126.0, 126.0)
    whole = (power + _ROUNDS) - _ROUNDS  # to the nearest; `floor` would be a call for every element
    part = power - whole
    square = part * part
    one, two, three, four, five = _COEFFICIENTS  # in pairs: `mx.compile` cuts long chains in several kernels
    series = ((five * part + four) * square + (three * part + two)) * square + (one * part + 1)
    scale = ((whole.astype(mx.int32) + 127) << 23).view(mx.float32)  # 2^whole: its exponent bits
    return series * scale


def _exp_or_zero(x: mx.array) -> mx.array:
    """e^x with a gradient; 0 instead of less than 4e-18.

    At masked places e^x is tiny and its gradients are denormal numbers, whose products take a hundred times as long.
    """
    return mx.where(x < _NEGLIGIBLE, 0.0, _polynomial_exp(x))


_differentiable_exp: Any = mx.custom_function(_exp_or_zero)
_differentiable_exp.vjp(lambda _, cotangent, output: cotangent * output)


def compiled(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """`function`, compiled once for every stream: MLX runs what it compiled in the stream of the first call."""
    made: dict[str, Callable[..., mx.array]] = {}

    @wraps(function)
    def call(*arrays: mx.array) -> mx.array:
        """The function compiled for the current stream, or itself where gradients are taken."""
        if _WITH_GRADIENTS.get():
            return function(*arrays)
        stream = str(mx.default_stream(mx.default_device()))
        if stream not in made:
            made[stream] = mx.compile(lambda *inputs: function(*inputs))  # a new function: MLX knows them by identity
        return made[stream](*arrays)

    return call


@compiled
def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """gate * sigmoid(gate) * x."""
    return gate * x / (1 + exp(-gate))


def norms(x: mx.array) -> mx.array:
    """Norms of the vectors of float32 `x`, (..., D) -> (...): a product with ones is vectorised, MLX's sum is not."""
    return mx.sqrt((x.square() @ mx.ones((x.shape[-1], 1)))[..., 0])


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x over its root mean square, times weight, (..., D) float32."""
    mean = x.square() @ _mean_of(x.shape[-1])  # (..., 1)
    return x * mx.rsqrt(mean + eps) * weight


@cache
def _mean_of(width: int) -> mx.array:
    """A column (D, 1) with which a product is the mean; computed, so that every thread can use it."""
    column = mx.full((width, 1), 1 / width)
    mx.eval(column)
    return column


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: Any) -> mx.array:
    """softmax(scale q k^T + mask) v: q (B, H, T, D), k and v (B, H / r, S, D) -> (B, H, T, D)."""
    batch, heads, length, width = queries.shape
    groups, total = keys.shape[1], keys.shape[2]
    grouped = (queries * scale).reshape(batch, groups, -1, width)  # (B, H/r, r T, D)
    scores = (grouped @ keys.swapaxes(-1, -2)).reshape(batch, heads, length, total)
    if isinstance(mask, str):  # "causal", the queries being the last of the keys
        mask = None if length == 1 else mx.arange(total) <= mx.arange(total - length, total)[:, None]
    if mask is not None:
        scores = mx.where(mask, scores, -1e30) if mask.dtype == mx.bool_ else scores + mask
    if length == 1 and scores.size <= _FEW and not _WITH_GRADIENTS.get():
        weights = mx.softmax(scores, axis=-1)
        return (weights.reshape(batch, groups, -1, total) @ values).reshape(batch, heads, length, -1)
    exp_below = _compiled_exp_below if length > 1 else _exp_below  # decoding has a new shape to compile at every step
    weights = exp_below(scores, scores.max(axis=-1, keepdims=True))
    read = weights.reshape(batch, groups, -1, total) @ values
    return read.reshape(batch, heads, length, -1) / weights.sum(axis=-1, keepdims=True)


def _exp_below(scores: mx.array, top: mx.array) -> mx.array:
    """e^(scores - top)."""
    return exp(scores - top)


_compiled_exp_below = compiled(_exp_below)
