"""Restarts: the rows of a trunk in passes of a good size, side by side where there are lanes.

On a CPU NumPy reads the logits, in a thread for each lane: the vocabulary costs as much as some blocks do. How rows are
dealt out to passes changes no value but in its last digits.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeVar

from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.lanes import lanes, together
from steering_core.engine.trunk import Trunk, first_layer, restart
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention

_LANE = 96  # tokens that a pass must have for running beside another to save more than the extra pass costs

TrunkRow = tuple[int, Intervention]
"""The index of a trunk's continuation, and what is done to it."""
Read = TypeVar("Read")
Reader = Callable[[Sequence[int], mx.array], list[Read]]
"""What is made of some rows' logits (N, V) float32: row after row, each at the places that are kept of it."""


def restarted(
    trunk: Trunk, rows: Sequence[TrunkRow], kept: Sequence[int], read: Reader[Read], work: Work
) -> Iterator[Read]:
    """What `read` finds in the logits at each row's first kept[row] answer tokens, pass by pass."""
    memory, length = trunk.model.memory, trunk.tokens.shape[1]
    passes = _passes(trunk, rows, max(kept, default=0))
    for begin in range(0, len(passes), lanes()):
        some = passes[begin : begin + lanes()]
        foreseen = [memory.peak(len(p), length, trunk.offset + length, logits=max(kept[r] for r in p)) for p in some]
        with memory.learning("score", sum(foreseen)):
            starts = [partial(_logits, trunk, [rows[r] for r in p], [kept[r] for r in p], work) for p in some]
            logits = together(starts, lambda one: one)
            yield from chain.from_iterable(_in_threads(read, some, logits))


def each_restarted(
    trunk: Trunk, rows: Sequence[TrunkRow], kept: int, read: Callable[[mx.array], list[Read]], work: Work
) -> list[Read]:
    """The value that `read` makes of each row, in the order of `rows`, from the logits at `kept` places of each."""

    def numbered(some: Sequence[int], logits: mx.array) -> list[tuple[int, Read]]:
        """Each value with its row."""
        return list(zip(some, read(logits), strict=True))

    found = dict(restarted(trunk, rows, [kept] * len(rows), numbered, work))
    return [found[r] for r in range(len(rows))]


def answer_places(trunk: Trunk, counts: Sequence[int]) -> list[tuple[int, int]]:
    """Where each row's first counts[row] answer tokens are predicted, as (row, position from the trunk's offset)."""
    first = trunk.prompt_length - 1 - trunk.offset
    return [(row, first + i) for row, count in enumerate(counts) for i in range(count)]


def _logits(trunk: Trunk, rows: Sequence[TrunkRow], kept: Sequence[int], work: Work) -> mx.array:
    return restart(trunk, rows, answer_places(trunk, kept), work).astype(mx.float32)


def _in_threads(read: Reader[Read], some: Sequence[Sequence[int]], logits: Sequence[mx.array]) -> list[list[Read]]:
    """What is read of every pass, all at once on a CPU: NumPy works outside of Python's lock."""
    if len(some) == 1 or not on_cpu():
        return [read(*one) for one in zip(some, logits, strict=True)]
    with ThreadPoolExecutor(len(some)) as threads:
        return list(threads.map(read, some, logits))


def _passes(trunk: Trunk, rows: Sequence[TrunkRow], kept: int) -> list[list[int]]:
    """Indices of rows that run together, in the order of the layers that they change first; `kept` places a row.

    `lanes()` passes fit into memory at once. They are about equally large and have rows of all layers, so that passes
    side by side end together. Where the trunk does not grow, a pass has rows of one layer.
    """
    memory, length = trunk.model.memory, trunk.tokens.shape[1]
    fitting = memory.rows("score", length, trunk.offset + length, logits=kept) // lanes()
    most = max(1, min(memory.habits.scoring // length, fitting))
    by_layer: dict[int, list[int]] = {}
    for r, (_, intervention) in enumerate(rows):
        by_layer.setdefault(first_layer(intervention, trunk.model.identity.n_layers), []).append(r)
    groups = [by_layer[layer] for layer in sorted(by_layer)]
    if trunk.grows and groups:
        groups = [list(chain.from_iterable(groups))]
    return [members[k::n] for members in groups for n in [_number(len(members), most, length)] for k in range(n)]


def _number(rows: int, most: int, length: int) -> int:
    """Over how many passes `rows` rows are spread, at most `most` in each: a multiple of the lanes where that pays."""
    least, side_by_side = -(-rows // most), min(lanes(), rows * length // _LANE)
    if side_by_side < 2:
        return least
    rounds = -(-least // side_by_side)
    return min(rows, rounds * side_by_side)
