"""Expressions: what is done to the residual stream, in one line, the same in the CLI, specs, Python and the explorer.

    0.6*formality + 0.4*concise @generation         add two vectors, alpha 0.6 and 0.4
    30%*formality/mean_difference/14                a dose: 30 % of the layer's mean residual norm
    !refusal @all                                   take the direction out (ablate); also ablate(refusal, 0.5)
    clamp(formality, 4); rotate(french, 20)         two changes; the component set to 4; turned by 20 degrees
    formality[12..16]                               each layer's own vector; formality @layers(12..16) is one at all
    between(formal, casual, 0.3)                    the vector three tenths of the way from one to the other
    formality @span("the weather") @when(anger > 2) at those tokens of the prompt, where another direction is seen
    formality @response @when(gate(anger), prompt)  in answers to prompts that are angry by anger's fitted threshold

A vector goes by any name that the library knows (`vectors.library`). A name without a strength has its recommended one
(1 where nothing was recommended); a key of 20 digits means that vector at strength 1. Without a phase a change acts in
`generation`, or wherever `@positions`, `@last` and `@span` say. `@first(20)` and `@decay(0.9)` are schedules over the
generated tokens. Minus between vectors stands between spaces, since names may hold a hyphen.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from steering_core.foundation.errors import InterventionError
from steering_core.interventions.declarations import ABLATE, ADD
from steering_core.interventions.where import CONSTANT, Over, Phase, Schedule


@dataclass(frozen=True)
class Amount:
    """A number: an alpha, or whatever the operation's amount is; with `percent` relative to the mean residual norm."""

    value: float
    percent: bool = False

    def __str__(self) -> str:
        return _number(self.value) + "%" * self.percent

    @classmethod
    def of_dose(cls, dose: float) -> "Amount":
        """A dose, 0.3, as it is written, 30%."""
        return cls(_rounded(100 * dose, _DECIMAL), percent=True)

    def rounded(self, digits: int) -> "Amount":
        """The number with so many digits."""
        return Amount(_rounded(_rounded(self.value, _DECIMAL), digits), self.percent)


ONE = Amount(1.0)
KEY_IN_FULL = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True)
class VectorName:
    """A vector by name, or one by name at each of `layers`; `column` is where it stands in the text."""

    name: str
    layers: tuple[int, ...] = ()
    column: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.name + (f"[{_layers(self.layers)}]" if self.layers else "")


@dataclass(frozen=True)
class Between:
    """The vector `share` of the way from one to another."""

    start: VectorName
    end: VectorName
    share: float

    def __str__(self) -> str:
        return f"between({self.start}, {self.end}, {_number(self.share)})"


@dataclass(frozen=True)
class Term:
    """A vector and its strength in a blend. None is the strength that is recommended for the vector's name.

    `minus` says whether a term of strength None is subtracted.
    """

    vector: VectorName | Between
    strength: Amount | None = None
    minus: bool = False

    @classmethod
    def read(cls, vector: VectorName | Between, strength: Amount | None) -> "Term":
        """The term as it is written: a key, or what lies between two vectors, has strength 1 where none is given."""
        return cls(vector, ONE if strength is None and _is_itself(vector) else strength)

    def __str__(self) -> str:
        if self.strength is None:
            return "-" * self.minus + str(self.vector)
        implied = self.strength == ONE and _is_itself(self.vector)
        return str(self.vector) if implied else f"{self.strength}*{self.vector}"

    @property
    def negative(self) -> bool:
        """Whether it is subtracted."""
        return self.minus if self.strength is None else math.copysign(1, self.strength.value) < 0

    def times(self, factor: float) -> "Term":
        """The same vector, `factor` times as strong. Raises InterventionError where it has no strength of its own."""
        if self.strength is None:
            raise InterventionError(f"{self.vector} has no strength that could be multiplied: write 1*{self.vector}")
        return replace(self, strength=Amount(self.strength.value * factor, self.strength.percent))

    def rounded(self, digits: int) -> "Term":
        """The same vector, its strength rounded to so many significant digits."""
        return replace(self, strength=self.strength and self.strength.rounded(digits))

    def negated(self) -> "Term":
        """The same vector with the opposite strength."""
        return replace(self, minus=not self.minus) if self.strength is None else self.times(-1)

    def renamed(self, names: Mapping[str, str]) -> "Term":
        """The term with other vectors, by name."""
        return replace(self, vector=_renamed(self.vector, names))


@dataclass(frozen=True)
class When:
    """A condition: the component along a vector's direction above or below a threshold, or above its gate's (None).

    It is asked token by token, or once of the prompt's mean.
    """

    vector: VectorName
    threshold: Amount | None
    above: bool = True
    over: Over = "token"

    def __str__(self) -> str:
        asked = f"{self.vector} {'>' if self.above else '<'} {self.threshold}"
        if self.threshold is None:
            asked = f"gate({self.vector})"
        return f"@when({asked}{', prompt' * (self.over == 'prompt')})"


@dataclass(frozen=True)
class Clause:
    """One operation with a blend of vectors, and where it acts."""

    terms: tuple[Term, ...]
    operation: str = ADD.name
    amount: Amount | None = None
    phase: Phase | None = None
    positions: tuple[int, ...] = ()
    last: int = 0
    span: str | None = None
    schedule: Schedule = CONSTANT
    layers: tuple[int, ...] = ()
    when: When | None = None

    def __str__(self) -> str:
        return " ".join([self._action(), *self._modifiers()])

    def _action(self) -> str:
        blend = str(self.terms[0])
        for term in self.terms[1:]:
            shown = term.negated() if term.negative else term
            blend += f" {'-' if term.negative else '+'} {shown}"
        if self.operation == ADD.name:
            return blend
        if (
            self.operation == ABLATE.name
            and self.amount is None
            and len(self.terms) == 1
            and blend == str(self.terms[0].vector)
        ):
            return f"!{blend}"
        return f"{self.operation}({blend}{f', {self.amount}' if self.amount is not None else ''})"

    def _modifiers(self) -> list[str]:
        schedule = {
            "first": f"@first({_number(self.schedule.value)})",
            "decay": f"@decay({_number(self.schedule.value)})",
        }
        return [
            *([f"@{self.phase}"] if self.phase else []),
            *([f"@positions({', '.join(map(str, self.positions))})"] if self.positions else []),
            *([f"@last({self.last})"] if self.last else []),
            *([f"@span({json.dumps(self.span, ensure_ascii=False)})"] if self.span is not None else []),
            *([schedule[self.schedule.kind]] if self.schedule.kind in schedule else []),
            *([f"@layers({_layers(self.layers)})"] if self.layers else []),
            *([str(self.when)] if self.when else []),
        ]


@dataclass(frozen=True, repr=False)
class Expression:
    """An intervention as an expression. `str` writes an expression of the same meaning."""

    clauses: tuple[Clause, ...]
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "; ".join(map(str, self.clauses))

    def __repr__(self) -> str:
        return f"<Expression {self}>"

    @property
    def acting(self) -> list[str]:
        """The vectors that it steers with, each once, in order."""
        return list(dict.fromkeys(n.name for c in self.clauses for t in c.terms for n in _named(t.vector)))

    @property
    def names(self) -> list[str]:
        """All vectors that it names, each once: those that it steers with, then those of its conditions."""
        return list(dict.fromkeys([*self.acting, *(c.when.vector.name for c in self.clauses if c.when)]))

    def times(self, factor: float) -> "Expression":
        """The expression with every addition `factor` times as strong; other operations stay as they are."""
        return self._added(lambda term: term.times(factor))

    def rounded(self, digits: int) -> "Expression":
        """The expression with the strength of every addition rounded to so many significant digits."""
        return self._added(lambda term: term.rounded(digits))

    def _added(self, changed: Callable[[Term], Term]) -> "Expression":
        return Expression(
            tuple(
                replace(clause, terms=tuple(changed(term) for term in clause.terms))
                if clause.operation == ADD.name
                else clause
                for clause in self.clauses
            )
        )

    def renamed(self, names: Mapping[str, str]) -> "Expression":
        """The expression with other vectors, by name; those that its conditions look at stay."""
        return Expression(tuple(replace(c, terms=tuple(t.renamed(names) for t in c.terms)) for c in self.clauses))


def _is_itself(vector: VectorName | Between) -> bool:
    """Whether no strength can be recommended for it: a stored vector by its key, or one between two vectors."""
    return isinstance(vector, Between) or KEY_IN_FULL.fullmatch(vector.name) is not None


def _renamed(vector: VectorName | Between, names: Mapping[str, str]) -> VectorName | Between:
    if isinstance(vector, Between):
        start, end = (replace(v, name=names.get(v.name, v.name)) for v in (vector.start, vector.end))
        return Between(start, end, vector.share)
    return replace(vector, name=names.get(vector.name, vector.name))


def _named(vector: VectorName | Between) -> list[VectorName]:
    return [vector.start, vector.end] if isinstance(vector, Between) else [vector]


_DECIMAL = 12  # significant digits of a double that do not depend on how it was computed


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _layers(layers: Sequence[int]) -> str:
    """12,13,14,20 -> 12..14,20"""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}..{r[-1]}" for r in runs)
