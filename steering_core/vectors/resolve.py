"""From words to numbers: an expression's vectors looked up, and put together as an `Intervention`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from steering_core.foundation.bounds import checked_alpha, checked_dose
from steering_core.foundation.errors import InterventionError, LayerNotFound, VectorAmbiguous, VectorError
from steering_core.interventions.change import Change, Condition, Intervention
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.expression import (
    KEY_IN_FULL,
    ONE,
    Amount,
    Between,
    Clause,
    Expression,
    Term,
    VectorName,
    When,
)
from steering_core.interventions.parsing import fault_at, parse
from steering_core.interventions.safe_range import SafeRange
from steering_core.interventions.where import Where
from steering_core.vectors.vector import Vector

Find = Callable[[str], Vector | Sequence[Vector]]
"""From a name to its vector, or its vectors, one a layer (`vectors.library.named`). Raises VectorError for none."""
DIGITS = 6  # of a recommended strength in an expression by key: further digits differ from machine to machine


@dataclass(frozen=True)
class _Direction:
    """A direction at a layer, the layer's mean residual norm, and the direction's recommended alpha.

    `share` is the direction's part of a dose that is given to a name of several layers. `safe` is the range of doses
    of which nobody is warned.
    """

    layer: int
    values: np.ndarray
    residual_norm: float
    recommended: float | None = None
    share: float = 1.0
    safe: SafeRange | None = None


def resolved(expression: Expression | str, find: Find, n_layers: int | None = None) -> Intervention:
    """The intervention that `expression` describes, its vectors found by `find`.

    Raises InterventionError for strengths and layers that do not fit, VectorError for an unknown name, with a caret
    under it, and LayerNotFound for a layer from `n_layers` on, where that is given.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    reader = _Lookup(expression.text or str(expression), find, n_layers)
    return Intervention(tuple(change for clause in expression.clauses for change in reader.changes(clause)))


def by_key(expression: Expression | str, find: Find, n_layers: int) -> tuple[Expression, tuple[Vector, ...]]:
    """The expression with keys in place of names, and its vectors, each once, in order.

    An expression by key means the same whatever its vectors are called later. Raises as `resolved` does.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    resolved(expression, find, n_layers)
    found: dict[str, Vector] = {}

    def seen(name: str) -> tuple[Vector, ...]:
        """The vectors of a name; they are added to `found`."""
        return tuple(found.setdefault(vector.vector_id, vector) for vector in _several(find(name)))

    reader = _Lookup(expression.text or str(expression), seen, n_layers)
    keyed = Expression(tuple(one for clause in expression.clauses for one in reader.keyed(clause)))
    return keyed, tuple(found.values())


@dataclass(frozen=True)
class _Lookup:
    """Looks up the names of one expression, whose `text` its errors show.

    `changes` makes changes of a clause's vectors, and `keyed` writes their keys in place of names. In a clause that
    adds, each vector of a term keeps its own strength. Any other operation takes one direction a layer: the blend of
    the clause's terms, in which a term without a strength has the weight 1 or -1.
    """

    text: str
    find: Find
    n_layers: int | None

    def changes(self, clause: Clause) -> list[Change]:
        """The changes of one clause: each term's for add, else one for each layer of the blend."""
        where, condition = _where(clause), self._condition(clause)
        if clause.operation == ADD.name:
            for term in clause.terms:
                self._check_added(term.vector)
            return [
                Change(layer, d.values, self._checked_alpha(term, d), ADD.name, where, condition, d.safe)
                for term in clause.terms
                for d in self._directions_of(term)
                for layer in self._layers(clause, d)
            ]
        return [
            Change(layer, d.values, _operation_amount(clause, d), clause.operation, where, condition)
            for d in self._blend(clause)
            for layer in self._layers(clause, d)
        ]

    def keyed(self, clause: Clause) -> list[Clause]:
        """The clause with its vectors by key: one clause for add, else one for each layer of the blend."""
        adds = clause.operation == ADD.name
        columns = [self._keyed_strengths(term) if adds else self._keyed_weights(term) for term in clause.terms]
        when = clause.when and self._keyed_condition(clause.when)
        if adds:
            return [replace(clause, terms=tuple(term for column in columns for term in column), when=when)]
        return [replace(clause, terms=row, when=when) for row in zip(*columns, strict=True)]

    def _keyed_condition(self, when: When) -> When:
        """The condition with the vector's key, and the gate's threshold as it is now: a gate may be fitted anew."""
        threshold = Amount(self._gate(when)) if when.threshold is None else when.threshold
        return replace(when, vector=self._key(when.vector), threshold=threshold)

    def _keyed_strengths(self, term: Term) -> list[Term]:
        """The term for each of its vectors by key, with the strength that the vector has in a clause that adds."""
        if isinstance(term.vector, Between):
            return self._keyed_weights(term)
        vectors = self._vectors(term.vector)
        strengths = [_strength(term, direction).rounded(DIGITS) for direction in _sharing_a_dose(vectors)]
        given = term.strength is not None and (not term.strength.percent or len(vectors) == 1)
        return [
            Term(VectorName(vector.vector_id), term.strength if given else strength)
            for vector, strength in zip(vectors, strengths, strict=True)
        ]

    def _keyed_weights(self, term: Term) -> list[Term]:
        """The term for each of its vectors by key, with its weight in a blend: recommended strengths do not count."""
        strength = term.strength or (Amount(-1.0) if term.minus else ONE)
        if isinstance(term.vector, Between):
            ends = (self._key(term.vector.start), self._key(term.vector.end))
            return [Term(Between(*ends, term.vector.share), strength)]
        return [Term(VectorName(vector.vector_id), strength) for vector in self._vectors(term.vector)]

    def _key(self, named: VectorName) -> VectorName:
        return VectorName(self._only(named).vector_id)

    def _blend(self, clause: Clause) -> list[_Direction]:
        """The weighted sum of the clause's vectors, one a layer; all terms have the same layers."""
        columns = [self._directions_of(term) for term in clause.terms]
        if len({tuple(d.layer for d in column) for column in columns}) > 1:
            raise InterventionError(
                f"{clause}: {clause.operation} takes one direction a layer, and these vectors are of several: "
                "name vectors of one layer, as in name/14"
            )
        return [_summed(clause.terms, row) for row in zip(*columns, strict=True)]

    def _directions_of(self, term: Term) -> list[_Direction]:
        """The direction of each of a term's vectors, or the one between two vectors."""
        if not isinstance(term.vector, Between):
            self._check_layers(term.vector.layers)
            return _sharing_a_dose(self._vectors(term.vector))
        start, end = self._only(term.vector.start), self._only(term.vector.end)
        if start.layer != end.layer:
            raise InterventionError(
                f"{term.vector} is between layers {start.layer} and {end.layer}: name vectors of one, as in name/14"
            )
        share = term.vector.share
        with np.errstate(over="ignore", invalid="ignore"):
            values = (1 - share) * start.direction + share * end.direction
        return [_Direction(start.layer, _float32(values, str(term.vector)), start.residual_norm)]

    def _vectors(self, named: VectorName) -> tuple[Vector, ...]:
        """All vectors of a name, at its layers where it has any."""
        return tuple(chain.from_iterable(self._called(name, named) for name in _names(named)))

    def _check_added(self, vector: VectorName | Between) -> None:
        """Raise InterventionError for a vector that is to be taken out, with a caret under its name."""
        for named in (vector.start, vector.end) if isinstance(vector, Between) else (vector,):
            for found in self._vectors(named):
                try:
                    found.check_added(named.name)
                except InterventionError as fault:
                    raise InterventionError(fault_at(self.text, named.column, str(fault))) from None

    def _checked_alpha(self, term: Term, direction: _Direction) -> float:
        """The multiplier of a term that is added. Raises InterventionError for an alpha too large to be meant.

        A vector by its whole key is not checked: stored interventions are written so, and must be readable.
        """
        alpha = _alpha(term, direction)
        if term.strength is None or term.strength.percent or isinstance(term.vector, Between):
            return alpha
        if KEY_IN_FULL.fullmatch(term.vector.name) or not direction.residual_norm > 0:
            return alpha
        norm = float(np.linalg.norm(direction.values.astype(np.float64)))
        try:
            return checked_alpha(alpha, alpha * norm / direction.residual_norm)
        except InterventionError as fault:
            raise InterventionError(fault_at(self.text, term.vector.column, str(fault))) from None

    def _only(self, named: VectorName) -> Vector:
        """The one vector of that name. Raises VectorAmbiguous."""
        vectors = self._called(named.name, named)
        if len(vectors) > 1:
            layers = ", ".join(str(vector.layer) for vector in vectors)
            what = (
                f"{named.name!r} is of layers {layers}, and one is needed here: write {named.name}/{vectors[-1].layer}"
            )
            raise VectorAmbiguous(fault_at(self.text, named.column, what))
        return vectors[0]

    def _called(self, name: str, named: VectorName) -> tuple[Vector, ...]:
        """The vectors called `name`. Raises what `find` does, with a caret under `named`."""
        try:
            return _several(self.find(name))
        except VectorError as fault:
            raise type(fault)(fault_at(self.text, named.column, str(fault))) from None

    def _layers(self, clause: Clause, direction: _Direction) -> tuple[int, ...]:
        self._check_layers(clause.layers)
        return clause.layers or (direction.layer,)

    def _check_layers(self, layers: tuple[int, ...]) -> None:
        if self.n_layers is not None and (beyond := [layer for layer in layers if layer >= self.n_layers]):
            raise LayerNotFound(f"layer {beyond[0]} in {self.text!r}: the model has layers 0..{self.n_layers - 1}")

    def _condition(self, clause: Clause) -> Condition | None:
        if clause.when is None:
            return None
        seen = self._only(clause.when.vector)
        threshold = clause.when.threshold
        if threshold is None:
            value = self._gate(clause.when)
            return Condition(seen.layer, seen.direction, value, True, clause.when.over)
        value = threshold.value / 100 * seen.residual_norm if threshold.percent else threshold.value
        return Condition(seen.layer, seen.direction, value, clause.when.above, clause.when.over)

    def _gate(self, when: When) -> float:
        """The vector's fitted threshold for the mean, or for one token. Raises InterventionError without one."""
        name, gates = when.vector.name, self._only(when.vector).gates
        over = "mean" if when.over == "prompt" else "token"
        if over not in gates:
            what = f"{name!r} has no gate: fit one with `steer vectors gate {name}`, or say a threshold, {name} > 2"
            raise InterventionError(fault_at(self.text, when.vector.column, what))
        return gates[over]


def _several(found: Vector | Sequence[Vector]) -> tuple[Vector, ...]:
    return (found,) if isinstance(found, Vector) else tuple(found)


def _sharing_a_dose(vectors: Sequence[Vector]) -> list[_Direction]:
    """The vectors of one name; those of a recommendation have the shares of a dose that they have in it."""
    doses = [vector.dose(vector.recommended) if vector.recommended is not None else 0.0 for vector in vectors]
    total = sum(map(abs, doses)) if all(doses) else 0.0
    shares = [dose / total if total and len(doses) > 1 else 1.0 for dose in doses]
    return [
        _Direction(v.layer, v.direction, v.residual_norm, v.recommended, share, v.cautioned_beyond)
        for v, share in zip(vectors, shares, strict=True)
    ]


def _names(named: VectorName) -> list[str]:
    """The name of each of its vectors: `name/14` where it has layers."""
    return [f"{named.name}/{layer}" for layer in named.layers] or [named.name]


def _where(clause: Clause) -> Where:
    """The tokens of a clause; without a phase `generation`, or `all` where it names positions or a span."""
    positions = clause.positions or tuple(range(-clause.last, 0))
    placed = bool(positions) or clause.span is not None
    phase = clause.phase or ("all" if placed else "generation")
    return Where(phase, positions or None, clause.span, clause.schedule)


def _summed(terms: Sequence[Term], row: Sequence[_Direction]) -> _Direction:
    """The sum of the terms' directions at one layer, each times its weight: its strength, or 1 or -1."""
    total = np.zeros_like(row[0].values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for term, direction in zip(terms, row, strict=True):
            weight = (-1.0 if term.minus else 1.0) if term.strength is None else _alpha(term, direction)
            total += weight * direction.values
    return _Direction(row[0].layer, _float32(total, " + ".join(map(str, terms))), row[0].residual_norm)


def _strength(term: Term, direction: _Direction) -> Amount:
    """The strength of a term at one of its vectors: as it is written, or as the vector was recommended, or 1."""
    if term.strength is None:
        recommended = 1.0 if direction.recommended is None else direction.recommended
        return Amount(-recommended if term.minus else recommended)
    if not term.strength.percent:
        return term.strength
    return replace(term.strength, value=term.strength.value * direction.share)


def _alpha(term: Term, direction: _Direction) -> float:
    strength = _strength(term, direction)
    return _alpha_of_percent(strength, direction) if strength.percent else strength.value


def _operation_amount(clause: Clause, direction: _Direction) -> float:
    """The amount of an operation; what a percentage is relative to, the operation declares (`Operation.percent`)."""
    if clause.amount is None:
        return 1.0
    if not clause.amount.percent:
        return clause.amount.value
    percent = declared(clause.operation).percent
    if percent == "share":
        return clause.amount.value / 100
    if percent == "component":
        return clause.amount.value / 100 * direction.residual_norm
    return _alpha_of_percent(clause.amount, direction)


def _alpha_of_percent(amount: Amount, direction: _Direction) -> float:
    """The multiplier that gives a dose in percent: amount / 100 * mean residual norm / norm of the direction."""
    checked_dose(amount.value / 100)
    norm = float(np.linalg.norm(direction.values.astype(np.float64)))
    if not norm or not direction.residual_norm > 0:
        raise InterventionError(
            f"{amount} of the residual norm needs a vector with a norm, and a measured residual norm"
        )
    return amount.value / 100 * direction.residual_norm / norm


def _float32(values: np.ndarray, what: str) -> np.ndarray:
    """`values` as float32. Raises InterventionError where that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: np.ndarray = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise InterventionError(f"{what} is beyond float32's range: lower its strengths")
    return found
