"""Activations without a store: for texts that somebody just typed."""

from collections.abc import Sequence

import numpy as np

from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.passes import plan_passes
from steering_core.foundation.counting import Work
from steering_core.models import Model
from steering_core.prompts import Prompt


def activations_of(
    model: Model, prompts: Sequence[Prompt], layers: Sequence[int], position: str
) -> tuple[np.ndarray, np.ndarray]:
    """Activations (N, L, D) and mean residual norms (N, L) of `prompts`, float32; equal ones are run once.

    Raises LayerNotFound, PositionUnknown, PromptError for a span that a prompt does not have, Diverged.
    """
    distinct = list({p.prompt_id: p for p in prompts}.values())
    place = {p.prompt_id: i for i, p in enumerate(distinct)}
    values = np.empty((len(distinct), len(layers), model.identity.width), np.float32)
    norms = np.empty(values.shape[:2], np.float32)
    reading = Reading(tuple(layers), position)
    passes = plan_passes([p.tokens for p in distinct], cost_here(model, reading))
    for captured in Capture(model, distinct, reading, Work()).run(passes):
        values[list(captured.rows)], norms[list(captured.rows)] = captured.values, captured.residual_norms
    rows = [place[p.prompt_id] for p in prompts]
    return values[rows], norms[rows]
