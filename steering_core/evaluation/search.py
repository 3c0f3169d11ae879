"""Search: which candidates of a grid deserve texts, found by teacher forcing alone and without measuring every cell.

Successive halving (Jamieson and Talwalkar 2016): every direction at one strength on a few validation items, then the
best directions at every strength, then combinations of the best, then ever fewer cells on ever more items. Cells beyond
the damage bound on neutral prompts drop out; the strengths of what is left are refined by bisection on the bounds. Only
cells that come through are compared with their controls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from steering_core.candidates.cell import Cell, prompted
from steering_core.candidates.chance import chance_controls
from steering_core.candidates.combine import combined
from steering_core.concepts import Item
from steering_core.evaluation.calibration import Calibration, Ladder
from steering_core.evaluation.recommendations import Bounds
from steering_core.foundation.counting import Done
from steering_core.scores.measure import measure_items, measure_neutral
from steering_core.scores.metrics import Bench
from steering_core.scores.summary import cell_values
from steering_core.spec import GenerationsSpec
from steering_core.store import Store
from steering_core.vectors.vector import Vector

SCREEN_ITEMS = 6  # items of the first round
SCREEN_NEUTRAL = 6  # neutral prompts on which damage is screened
REFINED = 3  # directions whose strength is refined
APART = 1.1  # a refined dose that is closer to one that was tried is not worth its texts
_KEPT = 3  # a round keeps one cell of so many
_FINER = Ladder(doublings=4, steps=2)

Measure = Callable[[Sequence[Cell], int], Done]


@dataclass
class Shortlist:
    """What a search found: the unsteered cell and the best candidates (`cells`), their controls, all it tried."""

    cells: list[Cell] = field(default_factory=list)
    controls: list[Cell] = field(default_factory=list)
    tried: list[Cell] = field(default_factory=list)
    measured: Done = field(default_factory=Done)
    generated: Done = field(default_factory=Done)

    @property
    def everything(self) -> list[Cell]:
        """Every cell with a score: what was tried, then the controls."""
        return [*self.tried, *self.controls]


@dataclass(frozen=True)
class Ground:
    """What a search measures on: validation items, neutral prompts, the metrics wanted, the bounds, and texts if any.

    Without `texts` strengths are refined by KL alone.
    """

    items: Sequence[Item]
    neutral: Sequence[str]
    metrics: Sequence[str]
    bounds: Bounds
    texts: GenerationsSpec | None = None


class Search:
    """One search: measures cells where it must, and ranks them by what the store then holds."""

    def __init__(
        self, bench: Bench, store: Store, ground: Ground, notify: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self.bench, self.store, self.ground, self.notify = bench, store, ground, notify
        self.found = Shortlist()

    def whole_grid(self, cells: Sequence[Cell], vectors: Sequence[Vector]) -> Shortlist:
        """Every cell, and every candidate's controls, on every item and neutral prompt: no search at all."""
        self.measure(cells, len(self.ground.items), len(self.ground.neutral))
        self.found.cells = list(cells)
        return self._with_controls(vectors, len(self.ground.items))

    def halving(self, cells: Sequence[Cell], vectors: Sequence[Vector], keep: int) -> Shortlist:
        """The `keep` best of `cells`, of which the first is the unsteered one, and of what the best combine to."""
        unsteered, candidates = cells[0], list(cells[1:])
        everything = len(self.ground.items)
        seen = min(SCREEN_ITEMS, everything)
        singles = self._directions(unsteered, candidates, seen, keep)
        left = self._screened(unsteered, singles, seen) or [self._least_damaging(singles)]
        left += self._screened(unsteered, self._combinations(left, candidates), seen)
        while len(left) > keep and seen < everything:
            left = self.best(left, max(keep, math.ceil(len(left) / _KEPT)))
            seen = min(2 * seen, everything)
            self.measure([unsteered, *left], seen, SCREEN_NEUTRAL)
        left = self.best(left, keep)
        self.measure([unsteered, *left], everything, len(self.ground.neutral))
        finer = self._refined(self.best(left, keep))
        self.measure([unsteered, *finer], everything, len(self.ground.neutral))
        coarse = self.best(left, max(keep - len(finer), 1))
        self.found.cells = [unsteered, *self.best([*finer, *coarse], keep)]
        return self._with_controls(vectors, min(2 * SCREEN_ITEMS, everything))

    def _screened(self, unsteered: Cell, cells: list[Cell], items: int) -> list[Cell]:
        """Those of `cells` that keep within the damage bound on a few neutral prompts, with their first effects."""
        if not cells:
            return []
        self.measure([unsteered, *cells], items, SCREEN_NEUTRAL)
        return self._within_bounds(cells)

    def _combinations(self, singles: Sequence[Cell], candidates: Sequence[Cell]) -> list[Cell]:
        """What the best single vectors combine to, at the doses at which the best of them is tried."""
        best = [cell for cell in self.best(singles, len(singles)) if cell.vector and cell.dose]
        if not best:
            return []
        doses = sorted(cell.dose for cell in candidates if cell.dose and cell.direction == best[0].direction)
        rest = [cell for cell in self.found.tried if cell.vector and cell.way == best[0].way]
        return combined([*best, *self.best(rest, len(rest))], doses)

    def _refined(self, best: Sequence[Cell]) -> list[Cell]:
        """The best directions at their largest doses within the bounds, where those are apart from what was tried.

        One text a prompt proposes a dose; the others then say whether it stays within the bounds.
        """
        directions = list({cell.direction: cell for cell in best if cell.dose}.values())[:REFINED]
        if not directions or "kl" not in self.ground.metrics:
            return []
        ground, bounds = self.ground, self.ground.bounds
        ladder = replace(_FINER, first=min(abs(cell.dose or 1.0) for cell in directions))
        once = (ground.texts or GenerationsSpec()).model_copy(update={"samples": 1})
        calibration = Calibration(self.bench, self.store, directions, once, ladder, self.notify)
        texts = ground.texts is not None and "perplexity" in ground.metrics
        found = calibration.within(bounds, ground.neutral[:SCREEN_NEUTRAL], texts)
        self.found.generated += calibration.generated
        return [one.cell for one in found if one.dose and not any(_alike(one.cell, cell) for cell in self.found.tried)]

    def _directions(self, unsteered: Cell, candidates: list[Cell], items: int, keep: int) -> list[Cell]:
        """The candidates along the best directions, judged at the middle of each one's strengths."""
        along: dict[str, list[Cell]] = {}
        for cell in candidates:
            along.setdefault(cell.direction, []).append(cell)
        if len(along) <= keep:
            return candidates
        middle = [sorted(group, key=lambda cell: cell.dose or 0.0)[len(group) // 2] for group in along.values()]
        self.measure([unsteered, *middle], items, 0)
        chosen = {cell.direction for cell in self.best(middle, max(keep, math.ceil(len(middle) / _KEPT)))}
        return [cell for cell in candidates if cell.direction in chosen]

    def _with_controls(self, vectors: Sequence[Vector], items: int) -> Shortlist:
        """The shortlist with random directions and shuffled labels beside each candidate, and the system prompt."""
        candidates = self.found.cells[1:]
        controls = {
            (control.intervention_id, control.control): control
            for cell in candidates
            for control in chance_controls(cell, vectors)
        }
        self.found.controls = list(controls.values())
        self.store.append("vectors", [vector.row() for cell in self.found.controls for vector in cell.vectors])
        self.found.controls += prompted(self.bench.model.identity, self.bench.concept)
        self.measure(self.found.controls, items, 0, tried=False)
        return self.found

    def measure(self, cells: Sequence[Cell], items: int, neutral: int, tried: bool = True) -> None:
        """Measure `cells` on the first `items` and `neutral` prompts of the ground."""
        ground, to = self.ground, (self.bench, self.store, cells)
        did = measure_items(*to, ground.items[:items], "validation", ground.metrics, self.notify)
        did += measure_neutral(*to, ground.neutral[:neutral], "validation", ground.metrics)
        self.found.measured += did
        if tried:
            known = {(cell.intervention_id, cell.control) for cell in self.found.tried}
            self.found.tried += [cell for cell in cells if (cell.intervention_id, cell.control) not in known]

    def _means(self, cells: Sequence[Cell], metric: str) -> list[float]:
        """Each cell's mean of a score over what was measured; nan where nothing was, or something diverged."""
        values = cell_values(self.store, [self.found.tried[0], *cells], self.found.measured.ids)[1:]
        return [float(np.mean(list(v[metric].values()))) if v.get(metric) else float("nan") for v in values]

    def best(self, cells: Sequence[Cell], n: int) -> list[Cell]:
        """The `n` cells that move the items furthest their own way, best first; diverged ones last."""
        effects = self._means(cells, "effect")
        reach = [cell.way * effect for cell, effect in zip(cells, effects, strict=True)]
        order = sorted(range(len(cells)), key=lambda i: -reach[i] if math.isfinite(reach[i]) else math.inf)
        return [cells[i] for i in order[:n]]

    def _within_bounds(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that damage neutral prompts no more than allowed."""
        if "kl" not in self.ground.metrics:
            return list(cells)
        damage = zip(cells, self._means(cells, "kl"), strict=True)
        return [cell for cell, kl in damage if kl <= self.ground.bounds.kl]

    def _least_damaging(self, cells: Sequence[Cell]) -> Cell:
        damage = zip(cells, self._means(cells, "kl"), strict=True)
        return min(damage, key=lambda one: one[1] if math.isfinite(one[1]) else math.inf)[0]


def _alike(one: Cell, other: Cell) -> bool:
    """Whether two cells are of one direction and of nearly one dose."""
    if not one.dose or not other.dose or one.direction != other.direction:
        return False
    return 1 / APART < one.dose / other.dose < APART
