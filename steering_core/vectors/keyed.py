"""An expression by the keys of its vectors, which means the same whatever the vectors are called later."""

from dataclasses import dataclass, replace

from steering_core.interventions.declarations import ADD
from steering_core.interventions.expression import ONE, Amount, Between, Clause, Expression, Term, VectorName, When
from steering_core.vectors.lookup import Find, Lookup, parsed, several, sharing_a_dose, strength_at
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

DIGITS = 6  # of a recommended strength in an expression by key: further digits differ from machine to machine


def by_key(expression: Expression | str, find: Find, n_layers: int) -> tuple[Expression, tuple[Vector, ...]]:
    """The expression with keys in place of names, and its vectors, each once, in order.

    An expression by key means the same whatever its vectors are called later. Raises as `resolved` does.
    """
    expression = parsed(expression)
    resolved(expression, find, n_layers)
    found: dict[str, Vector] = {}

    def seen(name: str) -> tuple[Vector, ...]:
        """The vectors of a name; they are added to `found`."""
        return tuple(found.setdefault(vector.vector_id, vector) for vector in several(find(name)))

    reader = _Keys(Lookup.of(expression, seen, n_layers))
    keyed = Expression(tuple(one for clause in expression.clauses for one in reader.clauses(clause)))
    return keyed, tuple(found.values())


@dataclass(frozen=True)
class _Keys:
    """Writes the keys of an expression's vectors in place of their `names`.

    In a clause that adds, each vector of a term keeps its own strength. Any other operation blends: recommended
    strengths do not count in it.
    """

    names: Lookup

    def clauses(self, clause: Clause) -> list[Clause]:
        """The clause with its vectors by key: one clause for add, else one for each layer of the blend."""
        adds = clause.operation == ADD.name
        columns = [self._strengths(term) if adds else self._weights(term) for term in clause.terms]
        when = clause.when and self._condition(clause.when)
        if adds:
            return [replace(clause, terms=tuple(term for column in columns for term in column), when=when)]
        return [replace(clause, terms=row, when=when) for row in zip(*columns, strict=True)]

    def _condition(self, when: When) -> When:
        """The condition with the vector's key, and the gate's threshold as it is now: a gate may be fitted anew."""
        threshold = Amount(self.names.gate(when)) if when.threshold is None else when.threshold
        return replace(when, vector=self._key(when.vector), threshold=threshold)

    def _strengths(self, term: Term) -> list[Term]:
        """The term for each of its vectors by key, with the strength that the vector has in a clause that adds."""
        if isinstance(term.vector, Between):
            return self._weights(term)
        vectors = self.names.vectors(term.vector)
        strengths = [strength_at(term, direction).rounded(DIGITS) for direction in sharing_a_dose(vectors)]
        given = term.strength is not None and (not term.strength.percent or len(vectors) == 1)
        return [
            Term(VectorName(vector.vector_id), term.strength if given else strength)
            for vector, strength in zip(vectors, strengths, strict=True)
        ]

    def _weights(self, term: Term) -> list[Term]:
        """The term for each of its vectors by key, with its weight in a blend: recommended strengths do not count."""
        strength = term.strength or (Amount(-1.0) if term.minus else ONE)
        if isinstance(term.vector, Between):
            ends = (self._key(term.vector.start), self._key(term.vector.end))
            return [Term(Between(*ends, term.vector.share), strength)]
        return [Term(VectorName(vector.vector_id), strength) for vector in self.names.vectors(term.vector)]

    def _key(self, named: VectorName) -> VectorName:
        return VectorName(self.names.only(named).vector_id)
