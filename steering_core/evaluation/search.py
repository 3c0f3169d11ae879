"""Search: which candidates deserve texts, found by teacher forcing alone and without measuring every cell.

Every direction is compared at the dose where it does the damage that a candidate may do, so that a louder direction has
no advantage. Successive halving (Jamieson and Talwalkar 2016): every direction on a few validation items, then
combinations of the best, then ever fewer on ever more items. The dose that a damage needs is found on the direction's
own curve (`curve`), first on a few of the untouched model's answers, at the end on all. Only candidates that come
through are compared with their controls.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from steering_core.candidates.answers import NeutralAnswer
from steering_core.candidates.cell import Cell, mirrored, prompted
from steering_core.candidates.chance_controls import chance_controls
from steering_core.candidates.combine import combined
from steering_core.concepts import Item
from steering_core.evaluation.bounds import MARGIN, Bounds
from steering_core.evaluation.curve import Curve, rounded
from steering_core.evaluation.damage import FEW_ANSWERS, Damage, within_kl
from steering_core.foundation.counting import Done
from steering_core.foundation.progress import Progress, silent
from steering_core.scores.measure import measure_items, measure_neutral
from steering_core.scores.metrics import Setup
from steering_core.scores.summary import ODD, cell_values, mean_of
from steering_core.store import Store
from steering_core.vectors.vector import Vector

SCREEN_ITEMS = 6  # items of the first round
SCREEN_NEUTRAL = 6  # neutral prompts of the first round
FEW_ROUNDS = 2  # doses of a direction at which screening measures its damage
KEPT = 3  # a round keeps one cell in three


@dataclass
class Shortlist:
    """What a search found: the unsteered cell and the best candidates (`cells`), their `controls`, all that it `tried`.

    `curves` are the damage over dose of the directions, by `Cell.direction`.
    """

    cells: list[Cell] = field(default_factory=list)
    controls: list[Cell] = field(default_factory=list)
    tried: list[Cell] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    measured: Done = field(default_factory=Done)

    @property
    def everything(self) -> list[Cell]:
        """Every cell with a score: what was tried, then the controls."""
        return [*self.tried, *self.controls]


@dataclass(frozen=True)
class SearchData:
    """What a search measures on (validation items, neutral prompts and answers), its metrics and the damage bounds.

    `controls` random directions stand beside each candidate whose vectors the run did not derive.
    """

    items: Sequence[Item]
    neutral: Sequence[str]
    answers: Sequence[NeutralAnswer]
    metrics: Sequence[str]
    bounds: Bounds
    controls: int


class Search:
    """One search: measures cells where it must, and ranks them by what the store then holds."""

    def __init__(self, setup: Setup, store: Store, data: SearchData, progress: Progress = silent) -> None:
        self.setup, self.store, self.data, self.progress = setup, store, data, progress
        self.found = Shortlist()
        self.damage = Damage(setup, store, data.answers)

    def whole_grid(self, cells: Sequence[Cell], vectors: Sequence[Vector]) -> Shortlist:
        """Every cell, and every candidate's controls, on every item, neutral prompt and answer: no search at all."""
        self.measure(cells, len(self.data.items), len(self.data.neutral))
        self.found.cells = list(cells)
        self._curves_of(cells[1:])
        return self._with_controls(vectors, len(self.data.items))

    def halving(self, cells: Sequence[Cell], vectors: Sequence[Vector], keep: int) -> Shortlist:
        """The `keep` best of `cells`, whose first is the unsteered one, and of the combinations of the best."""
        unsteered, candidates = cells[0], list(cells[1:])
        everything = len(self.data.items)
        seen = min(SCREEN_ITEMS, everything)
        written = [c for c in candidates if c.as_written]
        grid = [c for c in candidates if not c.as_written]
        singles = self._screened(unsteered, [*self.at_allowed(_middles(grid), FEW_ANSWERS), *written], seen)
        best = self.best(singles, max(keep, math.ceil(len(singles) / KEPT)))
        self._at_their_doses(unsteered, best, candidates, seen)
        derived = {vector.vector_id for vector in vectors}
        plain = [c for c in singles if not c.as_written and c.vector and c.vector.vector_id in derived]
        together = self.at_allowed(self._combinations(plain), FEW_ANSWERS)
        left = [*best, *self._screened(unsteered, together, seen)]
        while len(left) > keep and seen < everything:
            left = self.best(left, max(keep, math.ceil(len(left) / KEPT)))
            seen = min(2 * seen, everything)
            self.measure([unsteered, *left], seen, SCREEN_NEUTRAL)
        left = self.at_allowed(self.best(left, keep))
        self.measure([unsteered, *left], everything, len(self.data.neutral))
        self._curves_of(left)
        self.found.cells = [unsteered, *self.best(left, keep)]
        return self._with_controls(vectors, everything)

    def at_allowed(self, cells: Sequence[Cell], n: int | None = None) -> list[Cell]:
        """The cells, each at the dose where its damage on the first `n` answers (default all) is the wanted damage.

        Cells without a dose stay as they are; so do a spec's expressions, and all cells where damage is not measured,
        or the untouched model answers nothing on which it could be.
        """
        if not self._measures_damage:
            return list(cells)
        wanted = self.data.bounds.wanted_damage()
        dosed = [cell for cell in cells if cell.dose and not cell.as_written]
        at: dict[str, Cell] = {}
        for cell, curve in zip(dosed, self.damage.curves(dosed, wanted, n, FEW_ROUNDS), strict=True):
            self.found.curves[cell.direction] = curve
            at[cell.intervention_id] = cell.at(cell.sign * rounded(curve.dose_at(wanted)))
        if "kl" in self.data.metrics:
            few, allowed = self.data.neutral[:SCREEN_NEUTRAL], MARGIN * self.data.bounds.kl
            at = dict(zip(at, within_kl(self.damage, list(at.values()), few, allowed, FEW_ROUNDS)[0], strict=True))
        self.found.measured += self.damage.measured
        self.damage.measured = Done()
        found = [cell if cell.as_written else at.get(cell.intervention_id, cell) for cell in cells]
        return list({cell.intervention_id: cell for cell in found}.values())

    def _screened(self, unsteered: Cell, cells: list[Cell], items: int) -> list[Cell]:
        """The cells that keep within the bound on neutral next tokens, with their first effects.

        Where no cell does, the one that exceeds the bound least.
        """
        if not cells:
            return []
        self.measure([unsteered, *cells], items, SCREEN_NEUTRAL)
        if "kl" not in self.data.metrics:
            return cells
        kl = self._means(cells, "kl")
        within = [cell for cell, value in zip(cells, kl, strict=True) if value <= self.data.bounds.kl]
        least = min(range(len(cells)), key=lambda i: kl[i] if math.isfinite(kl[i]) else math.inf)
        return within or [cells[least]]

    def _at_their_doses(self, unsteered: Cell, best: Sequence[Cell], candidates: Sequence[Cell], items: int) -> None:
        """Measure the best directions at the grid's own strengths too: their dose response."""
        directions = {cell.direction for cell in best}
        grid = [cell for cell in candidates if cell.direction in directions]
        self.measure([unsteered, *grid], items, SCREEN_NEUTRAL, mirrors=False)

    def _combinations(self, singles: Sequence[Cell]) -> list[Cell]:
        """Combinations of the best of these cells of one vector each, at the dose of the best one."""
        best = [cell for cell in self.best(singles, len(singles)) if cell.dose]
        if not best:
            return []
        return combined([cell for cell in best if cell.sign == best[0].sign], [abs(best[0].dose or 1.0)])

    def _with_controls(self, vectors: Sequence[Vector], items: int) -> Shortlist:
        """The shortlist with random directions and shuffled labels beside each candidate, and the system prompt."""
        candidates = self.found.cells[1:]
        controls = {control.key: control for cell in candidates for control in self._rivals(cell, vectors)}
        self.found.controls = list(controls.values())
        self.store.append("vectors", [vector.row() for cell in self.found.controls for vector in cell.vectors])
        self.found.controls += prompted(self.setup.model.identity, self.setup.concept)
        self.measure(self.found.controls, items, 0, tried=False)
        return self.found

    def _rivals(self, cell: Cell, vectors: Sequence[Vector]) -> list[Cell]:
        return rivals_of(cell, vectors, self.data.controls, self.damage if self._measures_damage else None)

    @property
    def _measures_damage(self) -> bool:
        """Whether damage is asked for, and there are answers to measure it on."""
        return "damage" in self.data.metrics and bool(self.data.answers)

    def _curves_of(self, cells: Sequence[Cell]) -> None:
        """Add the damage that was measured at each cell's dose to its direction's curve."""
        if not self._measures_damage:
            return
        for cell, damage in zip(cells, self._means(cells, "damage"), strict=True):
            if cell.dose:
                curve = self.found.curves.get(cell.direction, Curve())
                self.found.curves[cell.direction] = curve.with_point(abs(cell.dose), damage)

    def measure(
        self, cells: Sequence[Cell], items: int, neutral: int, tried: bool = True, mirrors: bool = True
    ) -> None:
        """Measure `cells`, and mirror images of candidates on items, on the first `items` and `neutral` prompts.

        Damage on answers is measured too where all neutral prompts are. With `tried` the cells join `found.tried`.
        """
        data = self.data
        images = [image for cell in cells if mirrors and cell.control is None for image in mirrored(cell)]
        did = measure_items(
            self.setup, self.store, [*cells, *images], data.items[:items], "validation", data.metrics, self.progress
        )
        did += measure_neutral(self.setup, self.store, cells, data.neutral[:neutral], "validation", data.metrics)
        if tried and neutral == len(data.neutral) and "damage" in data.metrics:
            self.damage.of(cells)
        self.found.measured += did + self.damage.measured
        self.damage.measured = Done()
        if tried:
            known = {cell.key for cell in self.found.tried}
            new = {cell.key: cell for cell in (*cells, *images)}
            self.found.tried += [cell for key, cell in new.items() if key not in known]

    def _means(self, cells: Sequence[Cell], metric: str) -> list[float]:
        """Each cell's mean of a score over what was measured; nan where nothing was, or something diverged."""
        places = {cell.key: i for i, cell in enumerate(self.found.tried)}
        values = cell_values(self.store, self.found.tried, self.found.measured.ids)
        return [mean_of(values[places[cell.key]], metric) for cell in cells]

    def best(self, cells: Sequence[Cell], n: int) -> list[Cell]:
        """The `n` cells that move the items furthest in the direction of their sign, best first; diverged ones last.

        A cell is ranked by its odd effect, or by its effect where it has no mirror image.
        """
        if not cells:
            return []
        both = zip(cells, self._means(cells, ODD), self._means(cells, "effect"), strict=True)
        reach = [cell.sign * (odd if math.isfinite(odd) else effect) for cell, odd, effect in both]
        order = sorted(range(len(cells)), key=lambda i: -reach[i] if math.isfinite(reach[i]) else math.inf)
        return [cells[i] for i in order[:n]]


def _middles(candidates: Sequence[Cell]) -> list[Cell]:
    """One cell of every direction: the one in the middle of its positive strengths, or of all where none is positive.

    Where a grid has strengths of both signs, so, more of the concept is searched.
    """
    along: dict[str, list[Cell]] = {}
    for cell in candidates:
        if cell.dose:
            along.setdefault(cell.direction, []).append(cell)
    wanted = [[cell for cell in group if cell.sign > 0] or group for group in along.values()]
    return [sorted(group, key=lambda cell: cell.dose or 0.0)[len(group) // 2] for group in wanted]


def rivals_of(cell: Cell, vectors: Sequence[Vector], n: int, damage: Damage | None) -> list[Cell]:
    """A candidate's chance controls, each at the dose where it does as much damage as the candidate.

    `vectors` and `n` are those of `chance_controls`. Where damage is not measured, or the candidate has no dose, they
    have the candidate's strength.
    """
    controls = chance_controls(cell, vectors, n)
    if damage is None or not cell.dose or not controls:
        return controls
    wanted = float(damage.of([cell], FEW_ANSWERS).mean())
    if not wanted > 0:
        return controls
    curves = damage.curves(controls, wanted, FEW_ANSWERS, rounds=1)
    return [c.at(c.sign * rounded(curve.dose_at(wanted))) for c, curve in zip(controls, curves, strict=True)]
