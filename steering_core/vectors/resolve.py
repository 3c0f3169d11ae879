"""From words to numbers: an expression's vectors looked up, and put together as an `Intervention`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering_core.foundation.errors import InterventionError, LayerNotFound, VectorError
from steering_core.interventions.change import Change, Condition, Intervention
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.expression import Amount, Between, Clause, Expression, Term, VectorName, When
from steering_core.interventions.parsing import fault_at, parse
from steering_core.interventions.where import Where
from steering_core.vectors.vector import Vector

Find = Callable[[str], Vector]
"""The one vector of a name; raises a VectorError where there is none, or several."""


@dataclass(frozen=True)
class _Direction:
    """A direction at a layer, and the layer's mean residual norm."""

    layer: int
    values: np.ndarray
    residual_norm: float


def resolved(expression: Expression | str, find: Find, n_layers: int | None = None) -> Intervention:
    """The intervention that `expression` describes, its vectors found by `find`.

    Raises InterventionError for what cannot be, and VectorError for an unknown name, with a caret under it. Layers that
    it names are held against `n_layers` where that is given.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    reader = _Lookup(expression.text or str(expression), find, n_layers)
    return Intervention(tuple(change for clause in expression.clauses for change in reader.changes(clause)))


def by_key(expression: Expression | str, find: Find, n_layers: int) -> tuple[Expression, tuple[Vector, ...]]:
    """The expression with its vectors by their keys, and those vectors, each once, in order.

    It means the same whatever they are called later. Raises as `resolved` does.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    resolved(expression, find, n_layers)
    found: dict[str, Vector] = {}

    def seen(name: str) -> Vector:
        vector = find(name)
        return found.setdefault(vector.vector_id, vector)

    reader = _Lookup(expression.text or str(expression), seen, n_layers)
    keyed = Expression(tuple(one for clause in expression.clauses for one in reader.keyed(clause)))
    return keyed, tuple(found.values())


@dataclass(frozen=True)
class _Lookup:
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
                Change(layer, d.values, _alpha(term, d), ADD.name, where, condition)
                for term in clause.terms
                for d in self._directions(term)
                for layer in self._layers(clause, d)
            ]
        return [
            Change(layer, d.values, _operation_amount(clause, d), clause.operation, where, condition)
            for d in self._blend(clause)
            for layer in self._layers(clause, d)
        ]

    def keyed(self, clause: Clause) -> list[Clause]:
        """The same clause with its vectors by key: one for add, else one for each layer of the blend."""
        columns = [[replace(term, vector=vector) for vector in self._keys(term.vector)] for term in clause.terms]
        when = clause.when and self._keyed_condition(clause.when)
        if clause.operation == ADD.name:
            return [replace(clause, terms=tuple(term for column in columns for term in column), when=when)]
        return [replace(clause, terms=row, when=when) for row in zip(*columns, strict=True)]

    def _keyed_condition(self, when: When) -> When:
        """The same with the vector's key, and with a gate's threshold as it is now: it may be fitted anew."""
        key = self._key(when.vector.name, when.vector)
        threshold = Amount(self._gate(when.vector.name, when)) if when.threshold is None else when.threshold
        return replace(when, vector=key, threshold=threshold)

    def _keys(self, vector: VectorName | Between) -> list[VectorName] | list[Between]:
        if isinstance(vector, Between):
            start, end = (self._key(v.name, v) for v in (vector.start, vector.end))
            return [Between(start, end, vector.share)]
        return [self._key(name, vector) for name in _names(vector)]

    def _key(self, name: str, named: VectorName) -> VectorName:
        return VectorName(self._found(name, named).vector_id)

    def _blend(self, clause: Clause) -> list[_Direction]:
        """The weighted sum of the clause's vectors, one a layer; all terms have the same layers."""
        columns = [self._directions(term) for term in clause.terms]
        if len({tuple(d.layer for d in column) for column in columns}) > 1:
            raise InterventionError(
                f"{clause}: {clause.operation} takes one direction a layer, and these vectors are of several: "
                "name vectors of one layer, as in name/14"
            )
        return [_summed(clause.terms, row) for row in zip(*columns, strict=True)]

    def _directions(self, term: Term) -> list[_Direction]:
        if not isinstance(term.vector, Between):
            return self._named(term.vector)
        (start,), (end,) = self._named(term.vector.start), self._named(term.vector.end)
        if start.layer != end.layer:
            raise InterventionError(
                f"{term.vector} is between layers {start.layer} and {end.layer}: name vectors of one, as in name/14"
            )
        share = term.vector.share
        with np.errstate(over="ignore", invalid="ignore"):
            values = (1 - share) * start.values + share * end.values
        return [_Direction(start.layer, _float32(values, str(term.vector)), start.residual_norm)]

    def _named(self, named: VectorName) -> list[_Direction]:
        self._check_layers(named.layers)
        vectors = [self._found(name, named) for name in _names(named)]
        return [_Direction(v.layer, v.direction, v.residual_norm) for v in vectors]

    def _check_added(self, vector: VectorName | Between) -> None:
        """Raise InterventionError for a vector that is to be taken out, with a caret under its name."""
        for named in (vector.start, vector.end) if isinstance(vector, Between) else (vector,):
            for name in _names(named):
                try:
                    self._found(name, named).check_added(name)
                except InterventionError as fault:
                    raise InterventionError(fault_at(self.text, named.column, str(fault))) from None

    def _found(self, name: str, named: VectorName) -> Vector:
        try:
            return self.find(name)
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
        (seen,) = self._named(clause.when.vector)
        threshold = clause.when.threshold
        if threshold is None:
            value = self._gate(clause.when.vector.name, clause.when)
            return Condition(seen.layer, seen.values, value, True, clause.when.over)
        value = threshold.value / 100 * seen.residual_norm if threshold.percent else threshold.value
        return Condition(seen.layer, seen.values, value, clause.when.above, clause.when.over)

    def _gate(self, name: str, when: When) -> float:
        """The vector's fitted threshold, over what the condition is asked of. Raises InterventionError for none."""
        gates = self._found(name, when.vector).gates
        over = "mean" if when.over == "prompt" else "token"
        if over not in gates:
            what = f"{name!r} has no gate: fit one with `steer vectors gate {name}`, or say a threshold, {name} > 2"
            raise InterventionError(fault_at(self.text, when.vector.column, what))
        return gates[over]


def _names(named: VectorName) -> list[str]:
    """The name of each of its vectors: `name/14` where it has layers."""
    return [f"{named.name}/{layer}" for layer in named.layers] or [named.name]


def _where(clause: Clause) -> Where:
    """Without a phase: generation, or every token that is named."""
    positions = clause.positions or tuple(range(-clause.last, 0))
    placed = bool(positions) or clause.span is not None
    phase = clause.phase or ("all" if placed else "generation")
    return Where(phase, positions or None, clause.span, clause.schedule)


def _summed(terms: Sequence[Term], row: Sequence[_Direction]) -> _Direction:
    total = np.zeros_like(row[0].values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for term, direction in zip(terms, row, strict=True):
            total += _alpha(term, direction) * direction.values
    return _Direction(row[0].layer, _float32(total, " + ".join(map(str, terms))), row[0].residual_norm)


def _alpha(term: Term, direction: _Direction) -> float:
    return _relative(term.strength, direction) if term.strength.percent else term.strength.value


def _operation_amount(clause: Clause, direction: _Direction) -> float:
    if clause.amount is None:
        return 1.0
    if not clause.amount.percent:
        return clause.amount.value
    percent = declared(clause.operation).percent
    if percent == "share":
        return clause.amount.value / 100
    if percent == "component":
        return clause.amount.value / 100 * direction.residual_norm
    return _relative(clause.amount, direction)


def _relative(amount: Amount, direction: _Direction) -> float:
    """The multiplier that gives a dose: percent of the layer's mean residual norm."""
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
