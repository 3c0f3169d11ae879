"""Teacher forcing: what the model makes of given tokens, every row under its own intervention.

All rows of one prompt share its trunk (`steering_core.trunk`), and only the places that are asked for reach the
vocabulary projection.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering_core.backend import mx, on_cpu
from steering_core.engine import Work, checked
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.trunk import Trunk, first_layer, grow, restart

LOGITS_BUDGET = 1 << 25  # logits that one pass may hold, 128 MiB of float32
TOKEN_BUDGET = 640  # tokens in one pass
_GROUP = 256  # sequences that share one trunk
_SOFTMAX_ROWS = 16  # rows of logits that NumPy works on at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Scored:
    """A sequence to score from `start` on, under an intervention that counts tokens before `start` as the prompt."""

    tokens: tuple[int, ...]
    start: int
    intervention: Intervention = Intervention()

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens before `start`."""
        return self.tokens[: self.start]

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens from `start` on."""
        return self.tokens[self.start :]


def log_probabilities(model: Model, sequences: Sequence[Scored], work: Work) -> list[np.ndarray]:
    """Log-probability of each token from `start` on, in nats: for each sequence an array (n_tokens - start,) float32.

    nan where logits are not finite. Raises InterventionError for an intervention that does not fit the model.
    """
    sequences = [replace(s, intervention=checked(model, s.prompt, s.intervention)) for s in sequences]
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, sequence in enumerate(sequences):
        by_prompt.setdefault(sequence.prompt, []).append(i)
    results: list[np.ndarray] = [np.empty(0, np.float32)] * len(sequences)
    for prompt, members in _groups(by_prompt):
        answers = list(dict.fromkeys(sequences[i].answer for i in members))
        trunk = grow(model, prompt, answers, [sequences[i].intervention for i in members], work)
        rows = [(answers.index(sequences[i].answer), sequences[i].intervention) for i in members]
        for chunk in _chunks(trunk, rows, max(map(len, answers))):
            scored = [answers[rows[r][0]] for r in chunk]
            keep = _places(trunk, [len(answer) for answer in scored])
            if not keep:
                continue
            logits = restart(trunk, [rows[r] for r in chunk], keep, work)
            found = log_softmax_at(logits, np.array([token for answer in scored for token in answer]))
            ends = np.cumsum([len(answer) for answer in scored])[:-1]
            for r, values in zip(chunk, np.split(found, ends), strict=True):
                results[members[r]] = values
    return results


def _groups(by_prompt: dict[tuple[int, ...], list[int]]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Each prompt with its sequences, at most so many at once."""
    for prompt, members in by_prompt.items():
        for begin in range(0, len(members), _GROUP):
            yield prompt, members[begin : begin + _GROUP]


def divergences(
    model: Model, prompt: tuple[int, ...], interventions: Sequence[Intervention], work: Work
) -> list[float]:
    """KL divergence of each intervention's next-token distribution after `prompt` from the unsteered one's, in nats.

    KL(unsteered || steered), after Arditi et al. 2024; nan where logits are not finite.
    """
    fitting = [checked(model, prompt, intervention) for intervention in interventions]
    rows = [(0, Intervention()), *((0, intervention) for intervention in fitting)]
    trunk = grow(model, prompt, [()], [intervention for _, intervention in rows], work)
    base = log_softmax(restart(trunk, rows[:1], _places(trunk, [1]), work))[0]  # (V,)
    found = [0.0] * len(rows)
    for chunk in _chunks(trunk, rows, 1):
        logits = log_softmax(restart(trunk, [rows[r] for r in chunk], _places(trunk, [1] * len(chunk)), work))
        for r, steered in zip(chunk, logits, strict=True):
            found[r] = float((np.exp(base) * (base - steered)).sum(dtype=np.float64))
    return found[1:]


def _chunks(trunk: Trunk, rows: Sequence[tuple[int, Intervention]], kept: int) -> Iterator[list[int]]:
    """Indices of rows that run together: they change the same layer first, and fit the budgets at `kept` places."""
    identity = trunk.model.identity
    size = max(1, min(TOKEN_BUDGET // trunk.tokens.shape[1], LOGITS_BUDGET // (identity.vocab_size * max(kept, 1))))
    by_layer: dict[int, list[int]] = {}
    for r, (_, intervention) in enumerate(rows):
        by_layer.setdefault(first_layer(intervention, identity.n_layers), []).append(r)
    for members in by_layer.values():
        for begin in range(0, len(members), size):
            yield members[begin : begin + size]


def _places(trunk: Trunk, counts: Sequence[int]) -> list[tuple[int, int]]:
    """Where each row's first counts[row] answer tokens are predicted, as (row, position from the trunk's offset)."""
    first = trunk.prompt_length - 1 - trunk.offset
    return [(row, first + i) for row, count in enumerate(counts) for i in range(count)]


def log_softmax_at(logits: mx.array, targets: np.ndarray) -> np.ndarray:
    """Log-probability of `targets` (N,) under `logits` (N, V), float32 (N,); nan where they are not finite."""
    logits = logits.astype(mx.float32)
    if not on_cpu():
        chosen = mx.take_along_axis(logits, mx.array(targets)[:, None], axis=-1)[:, 0]
        return np.array(chosen - mx.logsumexp(logits, axis=-1))
    values = np.array(logits, copy=False)
    at_target: np.ndarray = values[np.arange(len(targets)), targets]
    with np.errstate(invalid="ignore"):  # a diverged row is nan
        return np.asarray(at_target - log_sum_exp(values), np.float32)


def log_softmax(logits: mx.array) -> np.ndarray:
    """Log-probabilities (N, V) float32 of `logits` (N, V)."""
    logits = logits.astype(mx.float32)
    if not on_cpu():
        return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    values = np.array(logits, copy=False)
    with np.errstate(invalid="ignore"):
        return np.asarray(values - log_sum_exp(values)[:, None], np.float32)


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """log of the sum of exp over the last axis, (N, V) -> (N,). MLX's exp is scalar code on a CPU, NumPy's is not."""
    sums = np.empty(len(values), np.float32)
    room = np.empty((_SOFTMAX_ROWS, values.shape[-1]), np.float32)
    with np.errstate(invalid="ignore"):
        for begin in range(0, len(values), _SOFTMAX_ROWS):
            part = values[begin : begin + _SOFTMAX_ROWS]
            top = part.max(axis=-1, keepdims=True)
            shifted = np.subtract(part, top, out=room[: len(part)])
            sums[begin : begin + len(part)] = np.log(np.exp(shifted, out=shifted).sum(axis=-1)) + top[:, 0]
    return sums
