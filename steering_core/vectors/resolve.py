"""From words to numbers: an expression's vectors looked up, and put together as an `Intervention`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.foundation.bounds import checked_alpha, checked_dose
from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Change, Condition, Intervention
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.expression import KEY_IN_FULL, Amount, Between, Clause, Expression, Term, VectorName
from steering_core.interventions.parsing import fault_at
from steering_core.interventions.where import Where
from steering_core.vectors.lookup import Direction, Find, Lookup, parsed, sharing_a_dose, strength_at


def resolved(expression: Expression | str, find: Find, n_layers: int | None = None) -> Intervention:
    """The intervention that `expression` describes, its vectors found by `find`.

    Raises InterventionError for strengths and layers that do not fit, VectorError for an unknown name, with a caret
    under it, and LayerNotFound for a layer from `n_layers` on, where that is given.
    """
    expression = parsed(expression)
    reader = _Changes(Lookup.of(expression, find, n_layers))
    return Intervention(tuple(change for clause in expression.clauses for change in reader.changes(clause)))


@dataclass(frozen=True)
class _Changes:
    """Makes the changes of one expression's clauses, whose `names` are looked up.

    In a clause that adds, each vector of a term is added by itself. Any other operation takes one direction a layer:
    the blend of the clause's terms, in which a term without a strength has the weight 1 or -1.
    """

    names: Lookup

    def changes(self, clause: Clause) -> list[Change]:
        """The changes of one clause: each term's for add, else one for each layer of the blend."""
        where, condition = _where(clause), self._condition(clause)
        if clause.operation == ADD.name:
            for term in clause.terms:
                self._check_added(term.vector)
            return [
                Change(layer, d.values, alpha, ADD.name, where, condition, d.safe, _unsaid(term, d), str(term.vector))
                for term in clause.terms
                for d in self._directions_of(term)
                for alpha in (self._checked_alpha(term, d),)
                for layer in self._layers(clause, d)
            ]
        return [
            Change(layer, d.values, _operation_amount(clause, d), clause.operation, where, condition)
            for d in self._blend(clause)
            for layer in self._layers(clause, d)
        ]

    def _blend(self, clause: Clause) -> list[Direction]:
        """The weighted sum of the clause's vectors, one a layer; all terms have the same layers."""
        columns = [self._directions_of(term) for term in clause.terms]
        if len({tuple(d.layer for d in column) for column in columns}) > 1:
            raise InterventionError(
                f"{clause}: {clause.operation} takes one direction a layer, and these vectors are of several: "
                "name vectors of one layer, as in name/14"
            )
        return [_summed(clause.terms, row) for row in zip(*columns, strict=True)]

    def _directions_of(self, term: Term) -> list[Direction]:
        """The direction of each of a term's vectors, or the one between two vectors."""
        if not isinstance(term.vector, Between):
            self.names.check_layers(term.vector.layers)
            return sharing_a_dose(self.names.vectors(term.vector))
        start, end = self.names.only(term.vector.start), self.names.only(term.vector.end)
        if start.layer != end.layer:
            raise InterventionError(
                f"{term.vector} is between layers {start.layer} and {end.layer}: name vectors of one, as in name/14"
            )
        share = term.vector.share
        with np.errstate(over="ignore", invalid="ignore"):
            values = (1 - share) * start.direction + share * end.direction
        return [Direction(start.layer, _float32(values, str(term.vector)), start.residual_norm)]

    def _check_added(self, vector: VectorName | Between) -> None:
        """Raise InterventionError for a vector that is to be taken out, with a caret under its name."""
        for named in (vector.start, vector.end) if isinstance(vector, Between) else (vector,):
            for found in self.names.vectors(named):
                try:
                    found.check_added(named.name)
                except InterventionError as fault:
                    raise InterventionError(fault_at(self.names.text, named.column, str(fault))) from None

    def _checked_alpha(self, term: Term, direction: Direction) -> float:
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
            raise InterventionError(fault_at(self.names.text, term.vector.column, str(fault))) from None

    def _layers(self, clause: Clause, direction: Direction) -> tuple[int, ...]:
        self.names.check_layers(clause.layers)
        return clause.layers or (direction.layer,)

    def _condition(self, clause: Clause) -> Condition | None:
        if clause.when is None:
            return None
        seen = self.names.only(clause.when.vector)
        threshold = clause.when.threshold
        if threshold is None:
            value = self.names.gate(clause.when)
            return Condition(seen.layer, seen.direction, value, True, clause.when.over)
        value = threshold.value / 100 * seen.residual_norm if threshold.percent else threshold.value
        return Condition(seen.layer, seen.direction, value, clause.when.above, clause.when.over)


def _where(clause: Clause) -> Where:
    """The tokens of a clause; without a phase `generation`, or `all` where it names positions or a span."""
    positions = clause.positions or tuple(range(-clause.last, 0))
    placed = bool(positions) or clause.span is not None
    phase = clause.phase or ("all" if placed else "generation")
    return Where(phase, positions or None, clause.span, clause.schedule)


def _summed(terms: Sequence[Term], row: Sequence[Direction]) -> Direction:
    """The sum of the terms' directions at one layer, each times its weight: its strength, or 1 or -1."""
    total = np.zeros_like(row[0].values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for term, direction in zip(terms, row, strict=True):
            weight = (-1.0 if term.minus else 1.0) if term.strength is None else _alpha(term, direction)
            total += weight * direction.values
    return Direction(row[0].layer, _float32(total, " + ".join(map(str, terms))), row[0].residual_norm)


def _alpha(term: Term, direction: Direction) -> float:
    strength = strength_at(term, direction)
    return _alpha_of_percent(strength, direction) if strength.percent else strength.value


def _unsaid(term: Term, direction: Direction) -> str | None:
    """The name of a term without a strength, where the vector has none of its own; None for others."""
    return str(term.vector) if term.strength is None and direction.lacks_strength else None


def _operation_amount(clause: Clause, direction: Direction) -> float:
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


def _alpha_of_percent(amount: Amount, direction: Direction) -> float:
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
