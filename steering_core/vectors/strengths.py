"""How strongly, and at which layers, the vectors of an expression act, in words."""

from collections.abc import Iterator
from dataclasses import replace

from steering_core.interventions.declarations import ADD
from steering_core.interventions.expression import ONE, Amount, Clause, Expression, VectorName
from steering_core.vectors.keyed import by_key
from steering_core.vectors.lookup import Find
from steering_core.vectors.vector import Vector


def strengths_in_words(expression: Expression, find: Find, n_layers: int) -> str:
    """The layers and strengths of what is added, as in `sentiment at layer 21 with alpha 2.56, dose 0.26`.

    Empty where nothing is added. Raises as `vectors.resolve.by_key` does.
    """
    return "; ".join(_added(expression, find, n_layers))


def _added(expression: Expression, find: Find, n_layers: int) -> Iterator[str]:
    for clause in expression.clauses:
        for term in clause.terms if clause.operation == ADD.name else ():
            if isinstance(term.vector, VectorName):
                alone = Expression((replace(clause, terms=(term,), when=None),), expression.text)
                keyed, vectors = by_key(alone, find, n_layers)
                strengths = [one.strength or ONE for one in keyed.clauses[0].terms]
                places = [_place(clause, *one) for one in zip(vectors, strengths, strict=True)]
                yield f"{term.vector} at {', '.join(places)}"


def _place(clause: Clause, vector: Vector, strength: Amount) -> str:
    """`layer 21 with alpha 2.56, dose 0.26`; without a measured residual norm there is no dose."""
    layers = ", ".join(map(str, clause.layers or (vector.layer,)))
    head = f"layer{'s' * (len(clause.layers) > 1)} {layers} with alpha"
    if not (vector.residual_norm > 0 and vector.norm > 0):
        return f"{head} {strength.value:.3g}"
    alpha = vector.alpha(strength.value / 100) if strength.percent else strength.value
    return f"{head} {alpha:.3g}, dose {vector.dose(alpha):.2g}"
