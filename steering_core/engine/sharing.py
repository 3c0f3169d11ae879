"""Rows that share work: where prompts agree and nothing steers them apart yet, one row stands for many.

Rows of one prompt are equal up to the first block that an intervention of one row touches. So the pass over the prompt
starts with one row a prompt and lets the stream grow, block by block, when an intervention begins: a row of its own for
every text that is changed there. Afterwards each block's cache holds as many rows as the stream had at it, and is
spread to the whole batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.engine.steering import Steering
from steering_core.interventions.change import Intervention
from steering_core.models.raw_text import Tokens
from steering_core.models.taps import Edit, Edits, chained


@dataclass(frozen=True)
class SharedRows:
    """Which of a batch's rows (B) the stream carries, and from which block on.

    `order` lists rows of the batch in the stream's order. First comes one row for each prompt; then come the rows that
    are changed somewhere, sorted by the block at whose output they leave their prompt's first row. `begins` holds that
    block for each row in `order`, -1 for rows that are there from the input on. A row of the batch that is not in
    `order` is never changed: it has the same stream as the first row of its prompt, and takes its cache from there.
    """

    order: tuple[int, ...]
    begins: tuple[int, ...]
    first_of_prompt: tuple[int, ...]  # for each row of the batch, the place in `order` of its prompt's first row

    @property
    def counts(self) -> list[int]:
        """How many rows the stream may have, ascending: at the input, and after each block at which it grows."""
        return [sum(begin <= layer for begin in self.begins) for layer in (-1, *self.grows_at)]

    @property
    def grows_at(self) -> list[int]:
        """The blocks at whose output rows are added."""
        return sorted({begin for begin in self.begins if begin >= 0})

    def spread(self, count: int) -> list[int]:
        """For each row of the batch, its place in a stream of `count` rows."""
        place = {row: i for i, row in enumerate(self.order[:count])}
        return [place.get(row, first) for row, first in enumerate(self.first_of_prompt)]

    def edits(self, steering: Steering, offset: int, length: int) -> Edits:
        """The steering of the rows in the stream, growing it on the way."""
        edits: Edits = {}
        count = self.counts[0]
        active = steering.keep(self.order[:count])
        plain = active.edits(offset, length)
        layers = sorted({*steering.layers, *self.grows_at})
        for layer in layers:
            if layer in self.grows_at:
                added = [i for i, begin in enumerate(self.begins) if begin == layer]
                source = [*range(count), *(self.first_of_prompt[self.order[i]] for i in added)]
                count += len(added)
                plain = steering.keep(self.order[:count]).edits(offset, length)
                edits[layer] = _taking(source)
            if layer in plain:
                edits[layer] = chained(edits[layer], plain[layer]) if layer in edits else plain[layer]
        return edits


def share_rows(prompts: Sequence[Tokens], interventions: Sequence[Intervention], may_grow: bool) -> SharedRows:
    """How rows share the pass over all but the last token of `prompts` (B).

    Without `may_grow` every row that is changed before its last token is in the stream from the input on. So is every
    row of a batch with conditions, which are read at several blocks.
    """
    begins = [_begins(i, len(p)) for p, i in zip(prompts, interventions, strict=True)]
    if not may_grow or any(c.condition for i in interventions for c in i.changes):
        begins = [-1 if begin < math.inf else begin for begin in begins]
    firsts: dict[Tokens, int] = {}  # for each prompt the row that is changed last, or never
    for row, tokens in enumerate(prompts):
        if tokens not in firsts or begins[row] > begins[firsts[tokens]]:
            firsts[tokens] = row
    own = sorted((b, row) for row, b in enumerate(begins) if b < math.inf and row not in firsts.values())
    place = {tokens: i for i, tokens in enumerate(firsts)}
    return SharedRows(
        order=(*firsts.values(), *(row for _, row in own)),
        begins=(*(-1 for _ in firsts), *(int(b) for b, _ in own)),
        first_of_prompt=tuple(place[tokens] for tokens in prompts),
    )


def _begins(intervention: Intervention, length: int) -> float:
    """The first block that the intervention touches before the prompt's last token; infinite for none."""
    touching = [c.layer for c in intervention.changes if c.where.first(length) < length - 1]
    return min(touching, default=math.inf)


def _taking(source: Sequence[int]) -> Edit:
    index = mx.array(np.array(source, np.int32))
    return lambda h: h[index]
