"""What the model makes of a text under any intervention: its logits, and how far they are from the unsteered ones."""

from typing import Unpack

import numpy as np

from steering_core.api.generate import AnyIntervention, diverged, steered
from steering_core.api.options import Options
from steering_core.api.questions import TextOrMessages, open_question
from steering_core.backend.mlx import mx
from steering_core.engine.forward import checked, forward
from steering_core.engine.steering import Steering
from steering_core.engine.teacher_forcing import divergences
from steering_core.foundation.counting import Work
from steering_core.models import Model


def logits(model: Model, text: TextOrMessages, what: AnyIntervention = None, **options: Unpack[Options]) -> np.ndarray:
    """The logits of each next token of `text` under `what`, (T, V) float32; the last row is the answer's first token's.

    The text is read as `generate` reads it, in the chat template where there is one unless `chat=False`. A vector acts
    from the text's last token on, so that it changes the last row alone, unless `phase="all"` says otherwise. The
    options are `generate`'s, of which those of sampling mean nothing here. Raises Diverged where a logit is inf or nan.
    """
    steering = steered(model, what, options)
    tokens = open_question(model, text, options.get("system"), options.get("chat")).tokens
    steering = checked(model, tokens, steering)
    found = forward(model, mx.array([tokens]), None, Steering([steering], [len(tokens)]), 0)[0]
    values = np.array(found.astype(mx.float32))  # (T, V)
    if not np.isfinite(values).all():
        raise diverged(model, steering)
    return values


def kl(model: Model, text: TextOrMessages, what: AnyIntervention, **options: Unpack[Options]) -> float:
    """KL divergence in nats of the answer's first token under `what` from the untouched model's, as the metric `kl`.

    Options are those of `logits`. Raises Diverged.
    """
    steering = steered(model, what, options)
    tokens = open_question(model, text, options.get("system"), options.get("chat")).tokens
    (found,) = divergences(model, tokens, [steering], Work())
    if not np.isfinite(found):
        raise diverged(model, steering)
    return found
