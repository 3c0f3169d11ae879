"""Interventions on the tiny model, and what a plain pass makes of them."""

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model

PROMPT = (5, 17, 40, 99, 120, 7)
ANSWERS = ((30, 31, 32), (33,), (30, 40, 41, 42, 43))
PROMPTS = ((5, 17, 40, 99, 120, 7), (9, 8, 7), (5, 17, 40, 99, 1, 1, 2, 3, 4, 4, 5))


def change(model: Model, layer: int, amount: float = 2.0, phase: str = "generation", operation: str = "add") -> Change:
    """A random direction at a layer, the same for the same layer."""
    direction = np.random.default_rng(layer).standard_normal(model.identity.width).astype(np.float32)
    return Change(layer, direction, amount, operation, Where(phase))


def interventions(model: Model) -> list[Intervention]:
    """One of each kind: nothing, every layer, every phase, several layers, an ablation, an amount of 0."""
    n = model.identity.n_layers
    return [
        Intervention(),
        *(Intervention((change(model, layer),)) for layer in range(n)),
        Intervention((change(model, 1, phase="all"),)),
        Intervention((change(model, 2, phase="prompt"),)),
        Intervention((change(model, 0), change(model, 2, -1.0), change(model, n - 1, 0.5))),
        Intervention((change(model, 1, 1.0, operation="ablate"),)),
        Intervention((change(model, 3, 0.0),)),
    ]


def plain_log_softmax(model: Model, tokens: tuple[int, ...], prompt_length: int, what: Intervention) -> np.ndarray:
    """Log-probabilities (T, V) of one pass over all tokens, steered block by block without any sharing."""
    gates = {c.layer: c.where.gate(np.arange(len(tokens)), prompt_length) for c in what.changes}

    def edit(c: Change):  # noqa: ANN202
        def changed(h: mx.array) -> mx.array:
            values = np.array(h)
            unit = c.direction / np.linalg.norm(c.direction)
            pushed = c.amount * c.direction
            if c.operation == "ablate":
                pushed = -c.amount * (values @ unit)[..., None] * unit
            return mx.array((values + gates[c.layer][None, :, None] * pushed).astype(np.float32))

        return changed

    with model.taps.applied({c.layer: edit(c) for c in what.changes}):
        logits = np.array(model.network(mx.array([tokens])))[0].astype(np.float64)
    return (
        logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(-1)[:, None]
    )


def push(model: Model, layer: int, amount: float = 3.0, phase: str = "generation") -> Intervention:
    """One random direction, added at a layer."""
    return Intervention((change(model, layer, amount, phase),))
