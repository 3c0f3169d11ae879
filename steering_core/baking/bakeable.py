"""What weights can hold of an expression: vectors added at every token, and directions that no matrix writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering_core.foundation.errors import NotBakeable
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.declarations import ABLATE, ADD, CLAMP, USUAL_DOSE
from steering_core.interventions.expression import Amount, Clause, Expression, Term, VectorName
from steering_core.interventions.where import CONSTANT

_USUAL = Amount.of_dose(USUAL_DOSE)  # where an operation's own amount says none


@dataclass(frozen=True)
class Removal:
    """A unit direction (D,) of which `share` is taken out of all that the blocks 0 .. `last_layer` write."""

    unit: np.ndarray
    share: float
    last_layer: int


@dataclass(frozen=True)
class Bakeable:
    """An intervention as weights hold it: what is added at each layer, (D,) float32, and what is taken out."""

    additions: dict[int, np.ndarray]
    removals: tuple[Removal, ...]

    @property
    def added(self) -> Intervention:
        """The additions, as the runtime does them at every token."""
        return Intervention(tuple(Change(layer, delta) for layer, delta in sorted(self.additions.items())))


def bakeable(expression: Expression, intervention: Intervention) -> Bakeable:
    """What weights hold of `intervention`, which is `expression` with its vectors found.

    Raises NotBakeable, with everything that weights cannot hold and the nearest expression that they can, and for an
    ablation that no matrix makes.
    """
    if reasons := [reason for clause in expression.clauses for reason in _reasons(clause)]:
        raise NotBakeable(
            f"weights act on every token alike, and {str(expression)!r} has {'; '.join(dict.fromkeys(reasons))}. "
            f"The nearest that can be baked: {str(nearest(expression))!r}"
        )
    additions: dict[int, np.ndarray] = {}
    removals: dict[tuple[bytes, float], Removal] = {}
    for change in intervention.changes:
        if change.operation == ADD.name:
            before = additions.get(change.layer, np.zeros(change.direction.shape))
            additions[change.layer] = before + change.amount * change.direction.astype(np.float64)
            continue
        removal = _removal(change)
        if removal.share:
            additions = {layer: _without(delta, removal) for layer, delta in additions.items()}
            _remember(removals, removal, expression)
    kept = {layer: delta.astype(np.float32) for layer, delta in additions.items() if delta.any()}
    if not kept and not removals:
        raise NotBakeable(f"{str(expression)!r} changes nothing: give it a strength")
    return Bakeable(kept, tuple(removals.values()))


def nearest(expression: Expression) -> Expression:
    """The expression that acts at every token and comes nearest to `expression`."""
    return Expression(tuple(near for clause in expression.clauses for near in _nearest(clause)))


def _reasons(clause: Clause) -> Iterator[str]:
    """What of a clause weights cannot hold, each with its place in the expression."""
    if clause.when is not None:
        yield f"the condition {clause.when}"
    if clause.schedule != CONSTANT:
        yield f"the schedule of {clause}"
    if clause.positions or clause.last or clause.span is not None:
        yield f"the positions of {clause}"
    elif clause.phase != "all":
        yield (
            f"the phase @{clause.phase}"
            if clause.phase
            else "the phase @generation, which is meant where none is named"
        )
    if clause.operation not in (ADD.name, ABLATE.name):
        yield f"the operation {clause.operation}"
    elif clause.operation == ABLATE.name and any(_one_a_layer(term) for term in clause.terms):
        yield f"a direction of its own at each layer ({clause}), where a matrix loses one for all that read it"


def _one_a_layer(term: Term) -> bool:
    return isinstance(term.vector, VectorName) and len(term.vector.layers) > 1


def _nearest(clause: Clause) -> list[Clause]:
    terms = clause.terms if clause.operation == ADD.name else tuple(_of_last_layer(term) for term in clause.terms)
    everywhere = Clause(terms, clause.operation, clause.amount, phase="all", layers=clause.layers)
    if clause.operation in (ADD.name, ABLATE.name):
        return [everywhere]
    added = replace(everywhere, operation=ADD.name, amount=None)
    if clause.operation == CLAMP.name and len(clause.terms) == 1 and clause.amount and clause.amount.percent:
        return [replace(everywhere, operation=ABLATE.name, amount=None), _at_amount(added, clause.amount)]
    return [_at_amount(added, _USUAL)] if len(clause.terms) == 1 else [added]


def _of_last_layer(term: Term) -> Term:
    """The term with the vector of its last layer, where it names one at each of several."""
    if not isinstance(term.vector, VectorName) or len(term.vector.layers) < 2:
        return term
    return replace(term, vector=VectorName(f"{term.vector.name}/{term.vector.layers[-1]}"))


def _at_amount(clause: Clause, amount: Amount) -> Clause:
    return replace(clause, terms=tuple(Term(term.vector, amount) for term in clause.terms))


def _removal(change: Change) -> Removal:
    norm = float(np.linalg.norm(change.direction.astype(np.float64)))
    return Removal((change.direction / norm).astype(np.float32), change.amount, change.layer)


def _remember(removals: dict[tuple[bytes, float], Removal], removal: Removal, expression: Expression) -> None:
    """Add a removal to those found: one direction at several layers is one, up to the last of them."""
    key = (removal.unit.tobytes(), removal.share)
    before = removals.get(key)
    if before is not None and before.last_layer != removal.last_layer and removal.share != 1:
        raise NotBakeable(
            f"{str(expression)!r} takes out a share of {removal.share:g} at several layers, which adds up from one to "
            "the next, and matrices do it once: name one layer, or take out all of it"
        )
    last = max(removal.last_layer, before.last_layer if before else 0)
    removals[key] = replace(removal, last_layer=last)


def _without(delta: np.ndarray, removal: Removal) -> np.ndarray:
    unit = removal.unit.astype(np.float64)
    found: np.ndarray = delta - removal.share * (delta @ unit) * unit
    return found


def low_rank(units: Sequence[np.ndarray], shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """L (D, k) and R (k, D) such that I + L R takes the directions (D,) out one after another, the first one first."""
    left, right = np.zeros((len(units[0]), 0)), np.zeros((0, len(units[0])))
    for unit, share in zip(units, shares, strict=True):
        u = unit.astype(np.float64)
        row = -share * (u + (u @ left) @ right)
        left, right = np.column_stack([left, u]), np.vstack([right, row])
    return left, right
