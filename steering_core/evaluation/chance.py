"""Chance: what the same search finds among directions that mean nothing, most of them from permuted labels.

Each draw exchanges the sides of pairs at random and derives the vectors of the grid anew (`vectors.permuted`). The best
layer and method of a draw are searched on validation items as the candidate's were, and the effect there is measured
on test items, at the candidate's damage. A draw counts twice, as itself and as its opposite, each with a search of its
own; the candidate's own opposite counts as well. If labels meant nothing, the candidate would be one among equals, so
that its rank is a p-value, however many layers and methods were searched (Westfall and Young 1993). For a candidate of
a method that reads activations, trained methods are left out of the draws. A vector of the library has no labels that a
coin could exchange: each draw has it turned at random, by itself, beside the vectors of permuted labels. Few training
rows have few labels (`vectors.relabelling`): all draws differ, and no p-value is below one over the number of ways to
label them.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from steering_core.candidates.cell import NONE, SHUFFLED, Cell, mirrored
from steering_core.candidates.chance_controls import turned_controls, turned_draw
from steering_core.candidates.grid import proportions
from steering_core.concepts import Item, Split
from steering_core.evaluation.curve import rounded
from steering_core.evaluation.damage import Damage
from steering_core.evaluation.search import SCREEN_ITEMS
from steering_core.foundation.counting import Done
from steering_core.foundation.errors import NoGradient
from steering_core.foundation.progress import Progress, silent
from steering_core.interventions.change import Phase
from steering_core.interventions.expression import Amount
from steering_core.scores.measure import measure_items
from steering_core.scores.summary import ODD, Scores, cell_values
from steering_core.statistics.intervals import prediction_p, rank_p
from steering_core.vectors.methods import METHODS
from steering_core.vectors.relabelling import PERMUTED, Relabellings
from steering_core.vectors.vector import Vector

log = logging.getLogger(__name__)

RANKED_FROM = 19  # null effects from which a rank can be significant
_KEPT = 3  # a draw's search goes on with one place in three
DAMAGE_ANSWERS = 4  # on which a draw's damage is compared with the candidate's
LABELS = "searches among permuted labels"
DIRECTIONS = "searches among directions without meaning"
TURNED = "random turns of its vectors"
_MOST_SCALED = 2.0  # a dose is scaled at most by this factor, up or down

Draw = Mapping[int, Sequence[Vector]]
"""One draw's vectors by layer: one of each method that is searched, then those that stand for the library's."""


class VectorPlace(NamedTuple):
    """The place of a vector in a draw: its layer, and which of the draw's vectors there it is."""

    layer: int
    at: int


class SignedDraw(NamedTuple):
    """A draw by its number, or with a `sign` of -1 its opposite: each has a search of its own."""

    draw: int
    sign: int


DrawnVector = tuple[int, VectorPlace]
"""A draw by its number, and the place of one of its vectors."""

Permuted = Callable[[Sequence[str], int], Sequence[Draw]]
"""From names of methods and a number to that many draws of their vectors of permuted labels."""


@dataclass(frozen=True)
class Searched:
    """What a search went through: the vectors that the run derived, with their controls, and others of the `library`.

    `permuted` gives the derived ones anew from permuted labels, which are some of the `ways` to label the rows.
    """

    derived: Sequence[Vector]
    library: Sequence[Vector]
    permuted: Permuted
    ways: Relabellings

    @property
    def methods(self) -> dict[str, str]:
        """Each derived vector's method by its key, controls left out."""
        return {vector.vector_id: vector.method for vector in self.derived if vector.control is None}

    def draws(self, n: int) -> list[Draw]:
        """As many draws: the vectors of permuted labels of every method that reads activations, and turned ones.

        They are fewer where there are methods, and fewer ways to permute labels.
        """
        methods = [method for method in dict.fromkeys(self.methods.values()) if method in METHODS]
        found = self.permuted(methods, n) if methods else [{} for _ in range(n)]
        return [self._with_turned(draw, i) for i, draw in enumerate(found)]

    def _with_turned(self, draw: Draw, i: int) -> Draw:
        both: dict[int, list[Vector]] = {layer: list(vectors) for layer, vectors in draw.items()}
        for vector in turned_draw(self.library, i):
            both.setdefault(vector.layer, []).append(vector)
        return both


@dataclass(frozen=True)
class Chance:
    """Null effects in nats on test items, positive in the direction of the candidate's sign, and its p-value.

    `least_p` is the smallest p-value that so many null effects allow, and so many `ways` to label the rows where labels
    were permuted: no p-value is below one over their number. `among` says what was searched or measured.
    """

    effects: tuple[float, ...]
    p_value: float
    least_p: float
    among: str = LABELS
    ways: Relabellings | None = None

    @classmethod
    def of(
        cls, effect: float, effects: Sequence[float], among: str = LABELS, ways: Relabellings | None = None
    ) -> "Chance":
        """The p-value of an effect in the direction of the candidate's sign: its rank among the null effects."""
        return cls._at_least(rank_p(effect, effects), 1 / (1 + len(effects)), effects, among, ways)

    @classmethod
    def of_few(
        cls, effect: float, effects: Sequence[float], n: int, among: str = LABELS, ways: Relabellings | None = None
    ) -> "Chance":
        """The p-value by Student's t of `n` draws, for methods that must be trained: too few for a rank."""
        p_value, least_p = prediction_p(effect, effects, n), 0.0 if n > 1 else 1.0
        return cls._at_least(p_value, least_p, effects, among, ways)

    @classmethod
    def _at_least(
        cls, p_value: float, least_p: float, effects: Sequence[float], among: str, ways: Relabellings | None
    ) -> "Chance":
        least = 1 / ways.n_ways if ways else 0.0
        return cls(_descending(effects), max(p_value, least), max(least_p, least), among, ways)


@dataclass
class ChanceSearch:
    """The search among meaningless directions, for one chosen candidate of a grid."""

    chosen: Cell
    damage: Damage
    validation: Sequence[Item]
    test: Sequence[Item]
    progress: Progress = silent
    measured: Done = field(default_factory=Done)

    def effects(self, draws: Sequence[Draw]) -> list[float]:
        """Odd effects on test items of the best places of each of N draws and of its opposite, 2 N in nats.

        They are scaled to the chosen candidate's damage: an odd effect grows with the dose, damage with its square.
        """
        doses = self._doses(draws)
        ranked = self._ranked(draws, doses)
        best = [
            (self._like_chosen(draws[signed.draw], places, doses), signed.sign) for signed, places in ranked.items()
        ]
        return self.at_equal_damage(best)

    def among_turned(self, n: int) -> list[float]:
        """Effects on test of the candidate's expression with its vectors turned at random, at its damage, n in nats.

        This is for an expression of the spec: no search chose it, so nothing is searched among the turned vectors.
        """
        cells = [replace(cell, control=PERMUTED) for cell in turned_controls(self.chosen, n)]
        if self.chosen.dose:
            return self.at_equal_damage([(cell, 1) for cell in cells])
        base = Cell(self.chosen.model_id, self.chosen.concept_id, control=NONE)
        means = self._means("propensity", [base, *cells], self.test, "test")
        return [means[cell.intervention_id] - means[base.intervention_id] for cell in cells]

    def at_equal_damage(self, signed: Sequence[tuple[Cell, int]]) -> list[float]:
        """The odd effect on test of every (cell, sign), with its sign, scaled to the chosen candidate's damage."""
        wanted = self._damage_of([self.chosen])[0]
        damages = self._damage_of([cell if sign > 0 else mirrored(cell)[0] for cell, sign in signed])
        odd = self._odd([cell for cell, _ in signed], self.test, "test")
        return [
            sign * effect * _scale(wanted, damage)
            for (_, sign), effect, damage in zip(signed, odd, damages, strict=True)
        ]

    @property
    def _phase(self) -> Phase:
        return self.chosen.intervention.changes[0].where.phase

    def _doses(self, draws: Sequence[Draw]) -> dict[int, float]:
        """Each layer's dose at the candidate's damage, from the first few draws' directions there, to three digits.

        It enters keys, and a measured damage differs in its last digits with the pass that it was measured in.
        """
        dose, wanted = abs(self.chosen.dose or 1.0), self._damage_of([self.chosen])[0]
        probes = [(layer, self._adding([draw[layer][0]], dose)) for draw in draws[:3] for layer in draw]
        found = self._damage_of([cell for _, cell in probes])
        at: dict[int, list[float]] = {}
        for (layer, _), damage in zip(probes, found, strict=True):
            at.setdefault(layer, []).append(damage)
        return {layer: rounded(dose * _scale(wanted, float(np.median(damages)))) for layer, damages in at.items()}

    def _ranked(self, draws: Sequence[Draw], doses: Mapping[int, float]) -> dict[SignedDraw, list[VectorPlace]]:
        """The places of each signed draw, ordered by their effect on validation items times the sign, best first.

        Effects are first-order estimates of all items at once. Where a model has no gradient, or another phase than
        `generation` is steered, they are measured.
        """
        singles: dict[DrawnVector, Cell] = {
            (i, VectorPlace(layer, at)): self._adding([vector], doses[layer])
            for i, draw in enumerate(draws)
            for layer, vectors in draw.items()
            for at, vector in enumerate(vectors)
        }
        signed_draws = [SignedDraw(i, sign) for i in range(len(draws)) for sign in (1, -1)]
        if self._phase == "generation":
            try:
                foreseen = self._means("first_order", list(singles.values()), self.validation, "validation")
            except NoGradient as error:
                log.info("the search among permuted labels measures every layer: %s", error)
            else:
                effects = {drawn: foreseen[cell.intervention_id] for drawn, cell in singles.items()}
                return {signed: _in_order(effects, signed) for signed in signed_draws}
        return self._ranked_by_measuring(singles, signed_draws)

    def _ranked_by_measuring(
        self, singles: Mapping[DrawnVector, Cell], signed_draws: Sequence[SignedDraw]
    ) -> dict[SignedDraw, list[VectorPlace]]:
        """Places in the order of their measured effects: all places on a few items, then the best on more items."""
        few, more = self.validation[:SCREEN_ITEMS], self.validation[: 2 * SCREEN_ITEMS]
        effects = dict(zip(singles, self._odd(list(singles.values()), few, "validation"), strict=True))
        first = {signed: _in_order(effects, signed) for signed in signed_draws}
        n_kept = math.ceil(len(first[signed_draws[0]]) / _KEPT)
        if n_kept == 1 or len(few) == len(self.validation):
            return first
        kept = sorted({(signed.draw, place) for signed, places in first.items() for place in places[:n_kept]})
        finer = dict(zip(kept, self._odd([singles[drawn] for drawn in kept], more, "validation"), strict=True))
        ranked = {}
        for signed, places in first.items():
            best = {(signed.draw, place): finer[signed.draw, place] for place in places[:n_kept]}
            ranked[signed] = _in_order(best, signed) + places[n_kept:]
        return ranked

    def _like_chosen(self, draw: Draw, places: Sequence[VectorPlace], doses: Mapping[int, float]) -> Cell:
        """The draw's vectors at its best places: at as many layers, or of as many methods, as the candidate's."""
        first = places[0]
        if len(self.chosen.vectors) == 1:
            return self._adding([draw[first.layer][first.at]], doses[first.layer])
        if len(self.chosen.layers) > 1:
            alike = [place for place in places if place.at == first.at]
        else:
            alike = [place for place in places if place.layer == first.layer]
        vectors = [draw[place.layer][place.at] for place in alike[: len(self.chosen.vectors)]]
        return self._adding(vectors, abs(self.chosen.dose or 1.0))

    def _adding(self, vectors: Sequence[Vector], dose: float) -> Cell:
        """The vectors in their proportions of `dose`, added in the chosen candidate's phase."""
        of, parts = self.chosen, [Amount.of_dose(part) for part in proportions(vectors)]
        unit = Cell.adding_amounts(of.model_id, of.concept_id, self._phase, vectors, parts)
        return replace(unit, control=PERMUTED).at(dose)

    def _damage_of(self, cells: Sequence[Cell]) -> list[float]:
        """Each cell's damage on a few answers, in nats per token."""
        found: list[float] = self.damage.of(cells, DAMAGE_ANSWERS).mean(axis=1).tolist()
        self.measured += self.damage.measured
        self.damage.measured = Done()
        return found

    def _odd(self, cells: Sequence[Cell], items: Sequence[Item], split: Split) -> list[float]:
        """Mean odd effect of every cell on items of a split; nan where something diverged."""
        images = [mirrored(cell)[0] for cell in cells]
        means = self._means("propensity", [*cells, *images], items, split)
        both = zip(cells, images, strict=True)
        return [(means[cell.intervention_id] - means[image.intervention_id]) / 2 for cell, image in both]

    def _means(self, metric: str, cells: Sequence[Cell], items: Sequence[Item], split: Split) -> dict[str, float]:
        """Mean of a metric of items for every cell, by intervention."""
        setup, store = self.damage.setup, self.damage.store
        unique = list({cell.intervention_id: cell for cell in cells}.values())
        did = measure_items(setup, store, unique, items, split, [metric], self.progress)
        self.measured += did
        both = zip(unique, cell_values(store, unique, did.ids), strict=True)
        return {cell.intervention_id: float(np.mean(list(v[metric].values()))) for cell, v in both}


def chance_of(search: ChanceSearch, searched: Searched, scores: Scores, draws: int) -> Chance | None:
    """The chance that the chosen candidate's effect on test meets; None where it adds no vector, or has no effect.

    A method that must be trained has as many draws as shuffled controls. An expression is compared with turned vectors.
    """
    chosen, mine = search.chosen, scores.get(search.chosen.intervention_id, {})
    row = mine.get(ODD) or mine.get("effect")
    if chosen.steering is None or row is None or row["value"] is None:
        return None
    effect = chosen.sign * float(row["value"])
    acting, own = [vector.vector_id for vector in chosen.vectors], searched.methods
    known = own.keys() | {vector.vector_id for vector in searched.library}
    if not chosen.dose or not known.issuperset(acting):
        return Chance.of(effect, search.among_turned(2 * draws + 1), TURNED)
    methods = list(dict.fromkeys(own[key] for key in acting if key in own))
    if set(methods) <= set(METHODS):
        found, among = searched.draws(draws), DIRECTIONS if searched.library else LABELS
    else:
        found, among = shuffled_draws(methods, searched.derived), LABELS
    effects, ways = search.effects(found) if found else [], searched.ways if own else None
    if len(effects) + 1 < RANKED_FROM:
        return Chance.of_few(effect, effects, len(found), among, ways)
    return Chance.of(effect, [*effects, -effect], among, ways)


def shuffled_draws(methods: Sequence[str], vectors: Sequence[Vector]) -> list[Draw]:
    """The shuffled controls of the grid's vectors as draws: the first of every layer and method, the second, …"""
    by_place: dict[tuple[int, str], list[Vector]] = {}
    for vector in vectors:
        if vector.control == SHUFFLED and vector.method in methods:
            by_place.setdefault((vector.layer, vector.method), []).append(vector)
    layers = sorted({layer for layer, _ in by_place})
    n = min(map(len, by_place.values()), default=0)
    whole = [layer for layer in layers if all((layer, method) in by_place for method in methods)]
    return [
        {layer: [by_place[layer, method][i] for method in methods] for layer in whole} for i in range(n if whole else 0)
    ]


def _descending(effects: Sequence[float]) -> tuple[float, ...]:
    """The effects, greatest first; those that diverged count as greatest."""
    return tuple(sorted(effects, key=lambda effect: -effect if math.isfinite(effect) else -math.inf))


def _in_order(effects: Mapping[DrawnVector, float], signed: SignedDraw) -> list[VectorPlace]:
    """The places of a draw's vectors by their effects times the sign, best first; those that diverged last."""
    mine = {place: signed.sign * effect for (draw, place), effect in effects.items() if draw == signed.draw}
    return sorted(mine, key=lambda place: -mine[place] if math.isfinite(mine[place]) else math.inf)


def _scale(wanted: float, damage: float) -> float:
    """The factor by which a dose must grow for its damage, its square, to be as wanted; `_MOST_SCALED` at most."""
    if not (math.isfinite(damage) and damage > 0 and wanted > 0):
        return 1.0
    return float(np.clip(math.sqrt(wanted / damage), 1 / _MOST_SCALED, _MOST_SCALED))
