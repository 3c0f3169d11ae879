"""Operations: what can be done to a residual stream. One function each, under the name that `declarations` gives it.

Each takes the stream h (B, T, D), a direction (B, 1, D), an amount (B, 1, 1) and a gate (B, T or 1, 1), all float32 but
h, and returns the changed stream in h's dtype. Where the gate is 0 the stream is returned as it came, bit for bit. A
gate g between 0 and 1 is a schedule's strength: add, ablate and rotate use g * amount in place of the amount; clamp and
replace return h + g * (h' - h), where h' is the stream that they give at gate 1. Norms and products are taken in
float32.
"""

from collections.abc import Callable

from steering_core.backend.mlx import mx
from steering_core.interventions.declarations import declared

OperationFunction = Callable[[mx.array, mx.array, mx.array, mx.array], mx.array]
FUNCTIONS: dict[str, OperationFunction] = {}


def operation(function: OperationFunction) -> OperationFunction:
    """Register the function of a declared operation. Raises InterventionError where its name is not declared."""
    FUNCTIONS[declared(function.__name__).name] = function
    return function


@operation
def add(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
    """h + amount * direction. Turner et al. 2023, Rimsky et al. 2023."""
    return _gated(gate, h, h + (gate * amount * direction).astype(h.dtype))


@operation
def ablate(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
    """h without its component along the direction (`amount` is the share removed). Arditi et al. 2024."""
    unit = _unit(direction)
    return _gated(gate, h, h - (gate * amount * component(h, unit) * unit).astype(h.dtype))


@operation
def clamp(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
    """h with its component along the direction set to `amount`. Templeton et al. 2024."""
    unit = _unit(direction)
    return _gated(gate, h, h + (gate * (amount - component(h, unit)) * unit).astype(h.dtype))


@operation
def rotate(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
    """h turned by `amount` degrees towards the direction, its norm kept. After Vu and Nguyen 2025, angular steering.

    A negative amount turns it away. It stops at the direction, or at its opposite, and never turns past them.
    """
    unit = _unit(direction)
    stream = h.astype(mx.float32)
    norm = mx.linalg.norm(stream, axis=-1, keepdims=True)  # (B, T, 1)
    along = (stream * unit).sum(axis=-1, keepdims=True)
    across = stream - along * unit
    across_norm = mx.maximum(mx.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
    angle = mx.arctan2(across_norm, along)  # from the direction, in [0, pi]
    turned = mx.clip(angle - gate * amount * (mx.pi / 180), 0.0, mx.pi)
    new = norm * (mx.cos(turned) * unit + mx.sin(turned) * across / across_norm)
    return _gated(gate, h, new.astype(h.dtype))


@operation
def replace(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
    """amount * direction in place of h (activation patching). Vig et al. 2020, Meng et al. 2022."""
    target = amount * direction
    part = target + (1 - gate) * (h.astype(mx.float32) - target)
    return _gated(gate, h, mx.where(gate == 1, target, part).astype(h.dtype))


def component(h: mx.array, unit: mx.array) -> mx.array:
    """h along a unit direction, in float32, (B, T, D) -> (B, T, 1)."""
    return (h.astype(mx.float32) * unit).sum(axis=-1, keepdims=True)


def _unit(direction: mx.array) -> mx.array:
    return direction / mx.maximum(mx.linalg.norm(direction, axis=-1, keepdims=True), 1e-12)


def _gated(gate: mx.array, h: mx.array, new: mx.array) -> mx.array:
    return mx.where(gate != 0, new, h)
