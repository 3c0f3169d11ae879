"""A request to steer, as it comes in, and the rows to sample that it asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steering_core.engine.probes import Probe
from steering_core.engine.sampling import Request
from steering_core.explorer import fields
from steering_core.explorer.batches import Rows, Sampling
from steering_core.explorer.drafts import Contrast, Drafts
from steering_core.explorer.fields import Dose, Flag, ModelName, OperationName, Real, Strength, Whole
from steering_core.foundation.keys import MAX_SEED
from steering_core.foundation.validation import Strict
from steering_core.interventions.change import Change, Intervention, Phase
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.expression import Amount, Clause, Expression, Term, VectorName
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.prompts import prompt
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

MAX_VECTORS = 8
MAX_LAYERS = 128
MAX_TOKENS = 2048
MAX_TEXT = 50_000
MAX_EXPRESSION = 2_000

Layer = Annotated[Whole, Field(ge=0, le=9_999)]


class VectorUse(Strict):
    """One vector and how strongly: a name or key, or a contrast; `alpha`, or `dose` in units of the residual norm.

    A name means what was recommended under it, at its layers, and without a strength as strongly as that. `layers` says
    where a contrast's vectors act, or which of a name's; "all" takes all of a name's.
    """

    vector: fields.VectorName | None = None
    contrast: Contrast | None = None
    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=MAX_LAYERS)] | Literal["all"] | None = None
    alpha: Strength | None = None
    dose: Dose | None = None
    operation: OperationName = ADD.name

    @model_validator(mode="after")
    def _one_of_each(self) -> "VectorUse":
        if (self.vector is None) == (self.contrast is None):
            raise ValueError("give a vector or a contrast, one of them")
        if self.contrast is not None and not isinstance(self.layers, tuple):
            raise ValueError("name layers for a contrast, as in [12]")
        operation = declared(self.operation)
        recommended = self.vector is not None and self.operation == ADD.name and (self.alpha, self.dose) == (None, None)
        if (self.alpha is None) == (self.dose is None) and not recommended:
            raise ValueError("give alpha or dose, one of them; neither for a name, at its recommended strength")
        if self.dose is not None and not operation.has_dose:
            raise ValueError(f"{self.operation} has no dose: give alpha, its {operation.amount}")
        return self


class Steering(Strict):
    """What is done to the residual stream: `vectors` in a phase, and an `expression`, as the command line takes it."""

    vectors: Annotated[tuple[VectorUse, ...], Field(max_length=MAX_VECTORS)] = ()
    phase: Phase = "generation"
    expression: Annotated[str, Field(max_length=MAX_EXPRESSION)] | None = None


class SteerRequest(Strict):
    """A prompt and how to steer its answer; with `compare` the unsteered answer comes beside it, with one seed."""

    model: ModelName
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    system: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    chat: Flag = True
    steering: Steering = Steering()
    compare: Flag = True
    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] = 80
    temperature: Annotated[Real, Field(ge=0, le=5)] = 0.7
    seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] = 0
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=8)] = ()

    @property
    def sampling(self) -> Sampling:
        """How the texts are drawn."""
        return Sampling(self.model, self.max_tokens, self.temperature, self.stop)


@dataclass(frozen=True)
class Applied:
    """One vector as it acts: which, how strongly, and in whose place in the request."""

    use: int
    vector: Vector
    change: Change

    def about(self) -> dict[str, Any]:
        """What the page shows of it."""
        v, amount = self.vector, self.change.amount
        shown = {"use": self.use, "vector_id": v.vector_id, "layer": v.layer, "operation": self.change.operation}
        strength = {"amount": amount, "dose": v.dose(amount) if self.change.operation == ADD.name else None}
        return {**shown, **strength, "norm": v.norm, "residual_norm": v.residual_norm}


Look = Callable[[str, library.Layers], tuple[Vector, ...]]
"""What a name means, at these of its layers."""


@dataclass(frozen=True)
class Plan:
    """The vectors that act, with their places in the request; the whole intervention, and the same in words."""

    applied: tuple[Applied, ...]
    intervention: Intervention
    expression: Expression

    def pushed(self, probe: Applied) -> float:
        """By how much the request's additions at the probe's layer move its own projection, at a token they act on."""
        unit = probe.vector.direction / probe.vector.norm
        adding = [c for c in self.intervention.changes if c.layer == probe.vector.layer and c.operation == ADD.name]
        return float(sum(change.amount * (change.direction @ unit) for change in adding))


def planned(model: Model, store: Store, drafts: Drafts, steering: Steering, named: Look | None = None) -> Plan:
    """What `steering` does to `model`. For the accelerator's thread. Raises for what does not fit or is gone.

    `named` looks vectors up, where somebody keeps them; otherwise the drafts and the store are asked.
    """
    look = named or partial(named_vectors, model, store, drafts)

    def find(name: str) -> tuple[Vector, ...]:
        return look(name, None)

    n_layers = model.identity.n_layers
    applied: list[Applied] = []
    clauses: list[Clause] = []
    for place, use in enumerate(steering.vectors):
        vectors = _vectors(model, drafts, use, look)
        found = _clauses(use, vectors, steering.phase)
        changes = resolved(Expression(found), find, n_layers).changes
        applied += [Applied(place, v, change) for v, change in zip(vectors, changes, strict=True)]
        clauses += found
    expression = Expression(tuple(clauses))
    intervention = Intervention(tuple(a.change for a in applied))
    if steering.expression:
        told = parse(steering.expression)
        intervention += resolved(told, find, n_layers)
        expression = Expression(expression.clauses + told.clauses)
    return Plan(tuple(applied), intervention, expression)


def _vectors(model: Model, drafts: Drafts, use: VectorUse, look: Look) -> list[Vector]:
    if use.contrast is not None:
        vectors, layers = drafts.of(model, use.contrast), use.layers if isinstance(use.layers, tuple) else ()
        return [vectors[layer] for layer in model.checked_layers(list(layers))]
    return list(look(use.vector or "", use.layers))


def named_vectors(
    model: Model, store: Store, drafts: Drafts, name: str, layers: library.Layers = None
) -> tuple[Vector, ...]:
    """The draft of that key, or what `name` means in the library. Raises VectorNotFound, VectorMismatch and so on."""
    draft = drafts.find(name)
    vectors = (draft,) if draft else library.named(store, name, model.identity, layers)
    for vector in vectors:
        vector.check(model.identity)
    return vectors


def _clauses(use: VectorUse, vectors: Sequence[Vector], phase: Phase) -> tuple[Clause, ...]:
    """The use in an expression's words: one clause that adds, or one of another operation a vector."""
    where = None if phase == "generation" else phase
    both = [(VectorName(vector.vector_id), _strength(use, vector)) for vector in vectors]
    if use.operation == ADD.name:
        return (Clause(tuple(Term(name, strength) for name, strength in both), phase=where),)
    return tuple(Clause((Term(name),), use.operation, strength, where) for name, strength in both)


def _strength(use: VectorUse, vector: Vector) -> Amount:
    """The strength of a use at one of its vectors; a dose of several layers is what each of them has."""
    if use.dose is not None:
        return Amount.of_dose(use.dose)
    if use.alpha is not None:
        return Amount(use.alpha)
    return Amount(1.0 if vector.recommended is None else vector.recommended)


def rows(model: Model, store: Store, drafts: Drafts, wanted: SteerRequest) -> Rows:
    """The rows to sample, the unsteered one first where it is wanted; every token brings each vector's projection."""
    tokens = prompt(model, wanted.prompt, chat=wanted.chat, system=wanted.system).tokens
    plan = planned(model, store, drafts, wanted.steering)
    steered = Request(tokens, plan.intervention, wanted.seed)
    requests = [Request(tokens, seed=wanted.seed), steered] if wanted.compare else [steered]
    probes = _middle_of_each(plan.applied)
    about = {
        "rows": ["base", "steered"] if wanted.compare else ["steered"],
        "vectors": [a.about() for a in plan.applied],
        "probes": [_probed(plan, a, wanted.steering.phase) for a in probes],
        "prompt_tokens": len(tokens),
    }
    return Rows(requests, [Probe(a.vector.layer, a.vector.direction) for a in probes], about)


def _probed(plan: Plan, probe: Applied, phase: Phase) -> dict[str, Any]:
    pushed = 0.0 if phase == "prompt" else plan.pushed(probe)
    vector = probe.vector
    return {"use": probe.use, "layer": vector.layer, "residual_norm": vector.residual_norm, "pushed": pushed}


def _middle_of_each(acting: Sequence[Applied]) -> list[Applied]:
    """Of each vector in the request the middle one of its layers."""
    uses = {a.use for a in acting}
    groups = [[a for a in acting if a.use == use] for use in sorted(uses)]
    return [group[len(group) // 2] for group in groups]
