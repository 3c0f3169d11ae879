"""Teacher forcing: what the model makes of given tokens, every row under its own intervention.

All rows of one prompt share its trunk (`steering_core.engine.trunk`), and only the places that are asked for reach the
vocabulary projection.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.forward import checked
from steering_core.engine.restarts import TrunkRow, answer_places, each_restarted, restarted
from steering_core.engine.trunk import Trunk, first_layer, grow, restart, shared_prefix
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model

Readout = Callable[[mx.array, np.ndarray, np.ndarray], np.ndarray]
"""From logits (N, V), M of their rows and the token that comes next at each, (M,) both, to one value or row of each."""
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
    return _read_sequences(model, sequences, log_softmax_at, work)


def next_token_distributions(model: Model, sequences: Sequence[Scored], work: Work) -> list[np.ndarray]:
    """Log-probabilities of the whole vocabulary at each token from `start` on: for each sequence (n_tokens - start, V).

    float32, in nats; nan where logits are not finite. Raises InterventionError as `log_probabilities` does.
    """
    return _read_sequences(model, sequences, lambda logits, places, targets: log_softmax(logits)[places], work)


def _read_sequences(model: Model, sequences: Sequence[Scored], read: Readout, work: Work) -> list[np.ndarray]:
    """What `read` makes of the logits at each sequence's answer tokens, one array a sequence."""
    sequences = [replace(s, intervention=checked(model, s.prompt, s.intervention)) for s in sequences]
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, sequence in enumerate(sequences):
        by_prompt.setdefault(sequence.prompt, []).append(i)
    results: list[np.ndarray] = [np.empty(0, np.float32)] * len(sequences)
    for prompt, members in _groups(model, sequences, by_prompt):
        of_prompt = _of_one_prompt(model, prompt, [sequences[i] for i in members], read, work)
        for i, found in zip(members, of_prompt, strict=True):
            results[i] = found
    return results


def _of_one_prompt(
    model: Model, prompt: tuple[int, ...], sequences: Sequence[Scored], read: Readout, work: Work
) -> list[np.ndarray]:
    """What `read` makes of answers to one prompt; answers that differ in their last token alone share a trunk's row."""
    stems = list(dict.fromkeys(sequence.answer[:-1] for sequence in sequences))
    trunk = grow(model, prompt, stems, [sequence.intervention for sequence in sequences], work)
    rows = _rows(stems, sequences)

    def values(some: Sequence[int], logits: mx.array) -> list[tuple[int, np.ndarray]]:
        """What is read for each sequence that some rows answer, by its index."""
        answered: list[int] = []
        places: list[np.ndarray] = []  # of each answered sequence's tokens in `logits`, where row follows row
        begin = 0
        for row in (rows[r] for r in some):
            for i in row.sequences:
                answered.append(i)
                places.append(begin + np.arange(len(sequences[i].answer)))
            begin += row.n_places
        targets = np.array([token for i in answered for token in sequences[i].answer], int)
        ends = np.cumsum([len(of_one) for of_one in places])
        parts = np.split(read(logits, np.concatenate(places), targets), ends[:-1])
        return list(zip(answered, parts, strict=True))

    trunk_rows, kept = [(row.stem, row.intervention) for row in rows], [row.n_places for row in rows]
    found = dict(restarted(trunk, trunk_rows, kept, values, work))
    return [found[i] for i in range(len(sequences))]


@dataclass(frozen=True)
class _StemRow:
    """One row of a prompt's trunk: the place of its stem, what is done to it, and the `sequences` that it answers.

    A stem is an answer without its last token. Tokens are predicted at `n_places` of the row's positions.
    """

    stem: int
    intervention: Intervention
    n_places: int
    sequences: list[int] = field(default_factory=list)


def _rows(stems: Sequence[tuple[int, ...]], sequences: Sequence[Scored]) -> list[_StemRow]:
    """Each stem under each of its interventions, once; interventions hold arrays, so they are told apart by `id`."""
    place_of = {stem: place for place, stem in enumerate(stems)}
    rows: dict[tuple[int, int], _StemRow] = {}
    for i, sequence in enumerate(sequences):
        stem = sequence.answer[:-1]
        key = (place_of[stem], id(sequence.intervention))
        row = rows.setdefault(key, _StemRow(place_of[stem], sequence.intervention, len(stem) + 1))
        row.sequences.append(i)
    return list(rows.values())


def _groups(
    model: Model, sequences: Sequence[Scored], by_prompt: dict[tuple[int, ...], list[int]]
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Each prompt with its sequences, as many at once as one trunk has room for."""
    for prompt, members in by_prompt.items():
        interventions = [sequences[i].intervention for i in members]
        end = max(len(sequences[i].tokens) for i in members)
        layers = {first_layer(one, model.identity.n_layers) for one in interventions}
        length = end - shared_prefix(prompt, interventions)
        fitting = model.memory.rows("score", length, end, streams=len(layers))
        size = min(fitting, model.memory.habits.trunk)
        for begin in range(0, len(members), size):
            yield prompt, members[begin : begin + size]


def divergences(
    model: Model, prompt: tuple[int, ...], interventions: Sequence[Intervention], work: Work
) -> list[float]:
    """KL divergence of each intervention's next-token distribution after `prompt` from the unsteered one's, in nats.

    KL(unsteered || steered), after Arditi et al. 2024; nan where logits are not finite. An intervention without
    changes is 0, and nothing is computed for it: a BLAS may round a row in one batch otherwise than in another.
    """
    rows = [(0, checked(model, prompt, intervention)) for intervention in interventions]
    unsteered = (0, Intervention())
    trunk = grow(model, prompt, [()], [intervention for _, intervention in (unsteered, *rows)], work)
    base = log_softmax(restart(trunk, [unsteered], answer_places(trunk, [1]), work))[0]  # (V,)

    def nats(logits: mx.array) -> list[float]:
        """Each row's divergence."""
        return [float((np.exp(base) * (base - row)).sum(dtype=np.float64)) for row in log_softmax(logits)]

    return _compared(trunk, rows, 1, nats, 0.0 if np.isfinite(base).all() else float("nan"), work)


def cross_entropy_gaps(
    model: Model,
    prompt: tuple[int, ...],
    answer: tuple[int, ...],
    interventions: Sequence[Intervention],
    temperature: float,
    work: Work,
) -> list[float]:
    """How much more surprising each intervention makes the next token to the untouched model, in nats per token.

    `answer` is the untouched model's own answer to `prompt`. At each of its tokens the next token's surprisal, -log p
    under the untouched model, is averaged over the steered model's distribution at `temperature`, and over the
    untouched model's. The value is the difference of these two expectations, averaged over the answer's tokens:
    H(steered, untouched) - H(untouched, untouched). So it is the expected logarithm of the perplexity ratio of one
    steered token after the untouched model's text. A temperature of 0 counts as 1. nan where logits are not finite.
    """
    rows = [(0, checked(model, prompt, intervention)) for intervention in interventions]
    unsteered = (0, Intervention())
    trunk = grow(model, prompt, [answer[:-1]], [intervention for _, intervention in (unsteered, *rows)], work)
    n = len(answer)
    logits = restart(trunk, [unsteered], answer_places(trunk, [n]), work)
    surprisal = -log_softmax(logits)  # (n, V)
    before = (probabilities(logits, temperature or 1.0) * surprisal).sum(axis=-1, dtype=np.float64)

    def gaps(logits: mx.array) -> list[float]:
        """Each row's mean gap."""
        after = mean_under(logits, surprisal, temperature or 1.0).reshape(-1, n)
        return [float((row - before).mean()) for row in after]

    return _compared(trunk, rows, n, gaps, 0.0 if np.isfinite(before).all() else float("nan"), work)


def _compared(
    trunk: Trunk,
    rows: Sequence[TrunkRow],
    kept: int,
    read: Callable[[mx.array], list[float]],
    unchanged: float,
    work: Work,
) -> list[float]:
    """What `read` makes of each row's logits at `kept` places; `unchanged` for interventions without changes."""
    changing = [row for row in rows if row[1].changes]
    values = iter(each_restarted(trunk, changing, kept, read, work))
    return [next(values) if intervention.changes else unchanged for _, intervention in rows]


def log_softmax_at(logits: mx.array, places: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log-probability of targets[i] under logits[places[i]], (N, V) -> float32 (M,); nan where they are not finite."""
    logits = logits.astype(mx.float32)
    if on_cpu():
        values = np.array(logits, copy=False)
        at_target, sums = values[places, targets], log_sum_exp(values)
    else:
        at_target = np.array(logits[mx.array(places), mx.array(targets)])
        sums = np.array(mx.logsumexp(logits, axis=-1))
    with np.errstate(invalid="ignore"):  # a diverged row is nan
        return np.asarray(at_target - sums[places], np.float32)


def log_softmax(logits: mx.array) -> np.ndarray:
    """Log-probabilities (N, V) float32 of `logits` (N, V)."""
    logits = logits.astype(mx.float32)
    if not on_cpu():
        return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    values = np.array(logits, copy=False)
    with np.errstate(invalid="ignore"):
        return np.asarray(values - log_sum_exp(values)[:, None], np.float32)


def probabilities(logits: mx.array, temperature: float) -> np.ndarray:
    """Probabilities (N, V) float32 of `logits` (N, V) at a temperature; nan where they are not finite."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(log_softmax(logits / temperature)), np.float32)


def mean_under(logits: mx.array, values: np.ndarray, temperature: float) -> np.ndarray:
    """Expectations (N,) of `values` (n, V) under `logits` (N, V) at a temperature, where N is a multiple of n.

    Row i meets row i % n of the values. nan where logits are not finite.
    """
    logits, n = logits.astype(mx.float32), len(values)
    if not on_cpu():
        weights = mx.softmax(logits / temperature, axis=-1).reshape(-1, n, logits.shape[-1])
        return np.array((weights * mx.array(values)).sum(axis=-1)).reshape(-1).astype(np.float64)
    found, rows = np.array(logits, copy=False), np.empty(len(logits), np.float64)
    room = np.empty(logits.shape[-1], np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # a diverged row is nan
        for i, row in enumerate(found):
            np.divide(row, np.float32(temperature), out=room)
            np.exp(np.subtract(room, room.max(), out=room), out=room)
            rows[i] = (room @ values[i % n]) / room.sum()
    return rows


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
