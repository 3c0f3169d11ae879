"""Positions: at which tokens of a prompt activations are read."""

import numpy as np

from steering_core.activations.sites import span
from steering_core.foundation.errors import PromptError
from steering_core.prompts import Prompt


def tokens_read(prompt: Prompt, position: str, special: frozenset[int]) -> np.ndarray:
    """Which tokens of a prompt its activation is the mean over, (T,) bool with at least one True.

    `last` is the last token, `all` every token by itself. `mean` leaves out token 0, where many models keep an
    attention sink of enormous norm, and special tokens. `response` is the mean over the answer's tokens, and the same
    as `mean` where there is no answer. `span:a:b` counts tokens as Python slices do. Where mean or response leave no
    token, the last one is read. Raises PromptError for a span that this prompt does not have.
    """
    n = len(prompt.tokens)
    read = np.zeros(n, bool)
    if position == "all":
        read[:] = True
    elif position == "last":
        read[-1] = True
    elif position in ("mean", "response"):
        start = prompt.response_start if position == "response" and prompt.response_start < n else 1
        among = prompt.tokens[start:]
        read[start:] = special.isdisjoint(among) or [token not in special for token in among]
        read[-1] |= not read.any()
    else:
        read[span(position)] = True
        if not read.any():
            raise PromptError(f"{position} is empty in a prompt of {n} tokens: {prompt.text[:60]!r}")
    return read


def tokens_normed(prompt: Prompt) -> np.ndarray:
    """Which tokens the residual norm is the mean over: all but the first, which may be an attention sink, (T,) bool."""
    normed = np.ones(len(prompt.tokens), bool)
    normed[0] = len(prompt.tokens) == 1
    return normed
