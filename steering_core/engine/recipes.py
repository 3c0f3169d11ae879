"""`Recipe`: how the tokens of one text are chosen from the model's logits, with mlx-lm's own functions for it.

First mlx-lm's logits processors change the logits (bias and penalties) and a grammar closes tokens; these are the
log-probabilities that are reported. Then mlx-lm's filters (top-p, min-p, top-k, in mlx-lm's order) leave some tokens
out, and `draws` takes one of the rest, at the recipe's temperature and with the row's own seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from steering_core.backend.mlx import mx
from steering_core.engine.grammar import Grammar

Processor = Callable[[mx.array, mx.array], mx.array]
"""From the last tokens (T,) and logits (1, V) to logits (1, V)."""

CONTEXT = 20  # tokens that a penalty looks back on, prompt included: mlx-lm's own default


@dataclass(frozen=True)
class Recipe:
    """How one row's tokens are chosen; temperature 0 takes the likeliest. The names are those of mlx-lm's server.

    A penalty looks at the last `*_context` tokens before the new one, those of the prompt included. `logit_bias` holds
    tokens and what is added to their logits.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_context: int = CONTEXT
    presence_penalty: float = 0.0
    presence_context: int = CONTEXT
    frequency_penalty: float = 0.0
    frequency_context: int = CONTEXT
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: Grammar | None = None

    @property
    def filters(self) -> tuple[float, float, int]:
        """What decides which tokens stay in the draw; rows with the same ones are filtered together."""
        return (self.top_p, self.min_p, self.top_k) if self.temperature else NO_FILTERS

    @property
    def context(self) -> int:
        """How many of the last tokens its processors look at."""
        return max(self.repetition_context, self.presence_context, self.frequency_context)

    def processors(self) -> list[Processor]:
        """mlx-lm's logits processors for this recipe; none where it changes no logits."""
        from steering_core.models.mlx_lm import make_logits_processors  # with a network, which has loaded mlx-lm

        made: list[Processor] = make_logits_processors(
            dict(self.logit_bias),
            None if self.repetition_penalty == 1 else self.repetition_penalty,
            self.repetition_context,
            self.presence_penalty,
            self.presence_context,
            self.frequency_penalty,
            self.frequency_context,
        )
        return made


NO_FILTERS = (1.0, 0.0, 0)


def filtered(log_probabilities: mx.array, filters: tuple[float, float, int]) -> mx.array:
    """Log-probabilities (B, V) with -inf where mlx-lm's filters leave a token out."""
    from steering_core.models.mlx_lm import apply_min_p, apply_top_k, apply_top_p

    top_p, min_p, top_k = filters
    if 0 < top_p < 1:
        log_probabilities = apply_top_p(log_probabilities, top_p)
    if min_p > 0:
        log_probabilities = apply_min_p(log_probabilities, min_p)
    if 0 < top_k < log_probabilities.shape[-1]:
        log_probabilities = apply_top_k(log_probabilities, top_k)
    return log_probabilities
