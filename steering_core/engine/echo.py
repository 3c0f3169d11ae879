"""Log-probabilities of a prompt's own tokens, as the model reads the prompt that it goes on with."""

from collections.abc import Sequence

from steering_core.backend.mlx import mx
from steering_core.engine.draws import LikelyToken, likeliest_of
from steering_core.engine.forward import checked, forward
from steering_core.engine.steering import Steering
from steering_core.engine.teacher_forcing import log_softmax
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model

_AT_ONCE = 64  # tokens, whose log-probabilities of the whole vocabulary are held at once


def prompt_log_probabilities(
    model: Model, tokens: Sequence[int], intervention: Intervention, likeliest: int, work: Work
) -> list[tuple[float, tuple[LikelyToken, ...]]]:
    """The log-probability of each token of a prompt but the first, in nats, and the `likeliest` tokens at its place.

    All of them are the prompt to the intervention: what acts in the phase generation begins at the last of them, whose
    next token is not asked for here. nan where logits are not finite. Raises as `forward.checked` does.
    """
    steering = Steering([checked(model, tuple(tokens), intervention)], [len(tokens)])
    cache = model.new_cache()
    found: list[tuple[float, tuple[LikelyToken, ...]]] = []
    step = min(_AT_ONCE, model.memory.stretch(1, len(tokens)))
    for begin in range(0, len(tokens) - 1, step):
        part = tokens[begin : min(begin + step, len(tokens) - 1)]
        values = log_softmax(forward(model, mx.array([list(part)]), cache, steering, begin)[0])  # (T, V)
        work.add(1, len(part))
        following = tokens[begin + 1 : begin + 1 + len(part)]
        for row, token in zip(values, following, strict=True):
            found.append((float(row[token]), likeliest_of(row, likeliest)))
    return found


def not_read(intervention: Intervention) -> bool:
    """Whether something of an intervention acts on no token of a prompt, so that their log-probabilities lack it."""
    return any(change.where.phase == "generation" for change in intervention.changes)
