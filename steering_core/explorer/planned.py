"""A request to steer, as it comes in, and the rows to sample that it asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steering_core.engine.probes import Probe
from steering_core.engine.sampling import Request
from steering_core.explorer import fields
from steering_core.explorer.batches import BatchSampling, RequestedRows
from steering_core.explorer.drafts import DraftContrast, Drafts
from steering_core.explorer.fields import DoseField, Flag, ModelField, OperationName, Real, Strength, Whole
from steering_core.foundation.bounds import checked_alpha
from steering_core.foundation.errors import VectorNotFound
from steering_core.foundation.keys import MAX_SEED
from steering_core.foundation.validation import Strict
from steering_core.interventions.change import UNTOUCHED, Change, Intervention, Phase
from steering_core.interventions.declarations import ADD, declared
from steering_core.interventions.expression import Amount, Clause, Expression, Term, VectorName
from steering_core.interventions.parsing import parse
from steering_core.models import Model, ModelIdentity
from steering_core.monitors.conversation import Watched
from steering_core.prompts import Prompt, conversation, prompt
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

MAX_EXCHANGES = 64
MAX_LAYERS = 128
MAX_TOKENS = 2048
MAX_TEXT = 50_000
MAX_EXPRESSION = 2_000

BASE, STEERED = "base", "steered"
_BEFORE: frozenset[Phase] = frozenset(("prompt", "system", "user"))  # phases that end before the answer

LayerField = Annotated[Whole, Field(ge=0, le=9_999)]


class VectorUse(Strict):
    """One vector and how strongly: a name or key, or a contrast; `alpha`, or `dose` in units of the residual norm.

    A name means what was recommended under it, at its layers, and without a strength as strongly as that. `layers` says
    where a contrast's vectors act, or which of a name's; "all" takes all of a name's.
    """

    vector: fields.VectorField | None = None
    contrast: DraftContrast | None = None
    layers: Annotated[tuple[LayerField, ...], Field(min_length=1, max_length=MAX_LAYERS)] | Literal["all"] | None = None
    alpha: Strength | None = None
    dose: DoseField | None = None
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


class PlannedSteering(Strict):
    """What is done to the residual stream: `vectors` in a phase, and an `expression`, as the command line takes it."""

    vectors: Annotated[tuple[VectorUse, ...], Field(max_length=fields.MAX_VECTORS)] = ()
    phase: Phase = "generation"
    expression: Annotated[str, Field(max_length=MAX_EXPRESSION)] | None = None


class Exchange(Strict):
    """A turn that is over: what was asked, and what the steered and the unsteered model answered to it."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    steered: Annotated[str, Field(max_length=MAX_TEXT)]
    base: Annotated[str, Field(max_length=MAX_TEXT)] | None = None


class SteerRequest(Strict):
    """A prompt and how to steer its answer; with `compare` the unsteered answer comes beside it, with one seed.

    `history` holds the turns before it: the steered answer goes on from the steered ones, the other from its own.
    `probes` name vectors that read along and change nothing.
    """

    model: ModelField
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    system: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    history: Annotated[tuple[Exchange, ...], Field(max_length=MAX_EXCHANGES)] = ()
    chat: Flag = True
    steering: PlannedSteering = PlannedSteering()
    probes: fields.ProbeNames = ()
    compare: Flag = True
    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] = 80
    temperature: Annotated[Real, Field(ge=0, le=5)] = 0.7
    seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] = 0
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=8)] = ()

    @model_validator(mode="after")
    def _read(self) -> "SteerRequest":
        if self.history and not self.chat:
            raise ValueError("a raw text has no turns before it: set chat, or leave history out")
        if self.compare and any(turn.base is None for turn in self.history):
            raise ValueError("compare wants the base model's own answer in each turn of history too")
        return self

    @property
    def sampling(self) -> BatchSampling:
        """How the texts are drawn."""
        return BatchSampling(self.model, self.max_tokens, self.temperature, self.stop)

    @property
    def rows(self) -> list[str]:
        """The texts that are wanted, in the order in which they are numbered."""
        return [BASE, STEERED] if self.compare else [STEERED]


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


FindVectors = Callable[[str, library.WantedLayers], tuple[Vector, ...]]
"""What a name means, at these of its layers."""


@dataclass(frozen=True)
class Plan:
    """The vectors that act, with their places in the request; the whole intervention, and the same in words."""

    applied: tuple[Applied, ...]
    intervention: Intervention
    expression: Expression

    def pushed(self, vector: Vector) -> float:
        """By how much the additions at the vector's own layer move the projection of an answer's token on it."""
        unit = vector.direction / vector.norm
        here = [c for c in self.intervention.changes if c.layer == vector.layer and c.where.phase not in _BEFORE]
        return float(sum(c.amount * (c.direction @ unit) for c in here if c.operation == ADD.name))


def planned(
    model: Model, store: Store, drafts: Drafts, steering: PlannedSteering, named: FindVectors | None = None
) -> Plan:
    """What `steering` does to `model`. For the accelerator's thread. Raises for what does not fit or is gone.

    `named` looks vectors up, where somebody keeps them; otherwise the drafts and the store are asked.
    """
    look = named or partial(named_vectors, model.identity, store, drafts)

    def find(name: str) -> tuple[Vector, ...]:
        """The vectors of a name, at the layers that were recommended."""
        return look(name, None)

    n_layers = model.identity.n_layers
    applied: list[Applied] = []
    clauses: list[Clause] = []
    for place, use in enumerate(steering.vectors):
        vectors = _vectors(model, drafts, use, look)
        found = _clauses(use, vectors, steering.phase)
        changes = resolved(Expression(found), find, n_layers).changes
        applied += [Applied(place, v, _marked(use, v, change)) for v, change in zip(vectors, changes, strict=True)]
        clauses += found
    expression = Expression(tuple(clauses))
    intervention = Intervention(tuple(a.change for a in applied))
    if steering.expression:
        written = parse(steering.expression)
        intervention += resolved(written, find, n_layers)
        expression = Expression(expression.clauses + written.clauses)
    return Plan(tuple(applied), intervention, expression)


def _vectors(model: Model, drafts: Drafts, use: VectorUse, look: FindVectors) -> list[Vector]:
    if use.contrast is not None:
        vectors, layers = drafts.of(model, use.contrast), use.layers if isinstance(use.layers, tuple) else ()
        return [vectors[layer] for layer in model.checked_layers(list(layers))]
    return list(look(use.vector or "", use.layers))


def named_vectors(
    identity: ModelIdentity, store: Store, drafts: Drafts, name: str, layers: library.WantedLayers = None
) -> tuple[Vector, ...]:
    """The draft of that key, or what `name` means in the library. Raises VectorNotFound, VectorMismatch and so on."""
    draft = drafts.find(name)
    if draft and layers not in (None, "all") and set(layers or ()) != {draft.layer}:
        raise VectorNotFound(f"the draft {name} is of layer {draft.layer}: ask for that layer, or leave layers out")
    vectors = (draft,) if draft else library.named(store, name, identity, layers)
    for vector in vectors:
        vector.check(identity)
    return vectors


def _clauses(use: VectorUse, vectors: Sequence[Vector], phase: Phase) -> tuple[Clause, ...]:
    """The use in an expression's words: one clause that adds, or one of another operation a vector."""
    where = None if phase == "generation" else phase
    both = [(VectorName(vector.vector_id), _strength(use, vector)) for vector in vectors]
    if use.operation == ADD.name:
        return (Clause(tuple(Term(name, strength) for name, strength in both), phase=where),)
    return tuple(Clause((Term(name),), use.operation, strength, where) for name, strength in both)


def _marked(use: VectorUse, vector: Vector, change: Change) -> Change:
    """The change under the use's name, marked where neither the use says how strong it is nor the vector."""
    lacks = use.alpha is None and use.dose is None and vector.lacks_strength
    return replace(change, called=use.vector, unsaid=use.vector if lacks else None)


def _strength(use: VectorUse, vector: Vector) -> Amount:
    """The strength of a use at one of its vectors; a dose given for several layers holds for each layer."""
    if use.dose is not None:
        return Amount.of_dose(use.dose)
    if use.alpha is not None:
        adds = use.operation == ADD.name and vector.residual_norm > 0
        return Amount(checked_alpha(use.alpha, vector.dose(use.alpha)) if adds else use.alpha)
    return Amount(vector.usual_alpha)


def rows(
    model: Model, store: Store, drafts: Drafts, wanted: SteerRequest, watched: Sequence[Watched] = ()
) -> RequestedRows:
    """The rows to sample, the unsteered one first where it is wanted.

    Every token brings the projection on each vector that steers, and then on each that is `watched`.
    """
    plan = planned(model, store, drafts, wanted.steering)
    read = [_talk(model, wanted, row) if wanted.history else _asked(model, wanted) for row in wanted.rows]
    steered = [plan.intervention if row == STEERED else UNTOUCHED for row in wanted.rows]
    requests = [Request(one.tokens, what, wanted.seed) for one, what in zip(read, steered, strict=True)]
    probes = _middle_of_each(plan.applied)
    about = {
        "rows": wanted.rows,
        "vectors": [a.about() for a in plan.applied],
        "probes": [{"use": a.use, **_probed(plan, a.vector)} for a in probes],
        "watched": [{**_gated(one), **_probed(plan, one.vector)} for one in watched],
        "prompt_tokens": len(read[-1].tokens),
        "warnings": list(plan.intervention.cautions),
    }
    directions = [Probe(a.vector.layer, a.vector.direction) for a in probes]
    return RequestedRows(requests, directions + [one.probe for one in watched], about)


def _asked(model: Model, wanted: SteerRequest) -> Prompt:
    return prompt(model, wanted.prompt, chat=wanted.chat, system=wanted.system)


def _talk(model: Model, wanted: SteerRequest, row: str) -> Prompt:
    """The conversation as it went in that row, and the prompt after it."""
    messages = [{"role": "system", "content": wanted.system}] if wanted.system else []
    for turn in wanted.history:
        answer = turn.steered if row == STEERED else turn.base or ""
        messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": answer}]
    return conversation(model, [*messages, {"role": "user", "content": wanted.prompt}])


def _probed(plan: Plan, vector: Vector) -> dict[str, Any]:
    return {"layer": vector.layer, "residual_norm": vector.residual_norm, "pushed": plan.pushed(vector)}


def _gated(one: Watched) -> dict[str, Any]:
    """A vector that reads along, and from which projection of a token on it counts as shown, where that was fitted."""
    return {"name": one.name, "vector_id": one.vector.vector_id, "threshold": one.vector.gates.get("token")}


def _middle_of_each(acting: Sequence[Applied]) -> list[Applied]:
    """Of each vector in the request the middle one of its layers."""
    uses = {a.use for a in acting}
    groups = [[a for a in acting if a.use == use] for use in sorted(uses)]
    return [group[len(group) // 2] for group in groups]
