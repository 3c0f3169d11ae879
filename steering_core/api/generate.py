"""Texts from a model under anything that steers: a vector, an expression, an intervention, or nothing.

    import steering_core as steer

    with steer.open_model("smollm2-135m") as model:
        formal = steer.contrast(model, "I would be delighted to assist you.", "yeah sure whatever", layer=15)
        print(steer.generate(model, "Tell me about tea.", formal, dose=0.3, max_tokens=60))
        for piece in steer.stream(model, "Tell me about tea.", "30%*formality @generation"):
            print(piece, end="", flush=True)

`what` may be None (the model itself), a `Vector` (alpha times it, or at a dose, added from the prompt's last token on),
several vectors together, an expression whose vectors the store knows (`interventions.expression`), or an `Intervention`
made by hand. A vector without a strength acts at its recommended alpha, or at alpha 1, with a SteeringWarning, where
nothing was recommended.
"""

import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Unpack, cast, overload

import numpy as np

from steering_core.api.options import (
    DEFAULT,
    Options,
    Sampling,
    SamplingOptions,
    StorePath,
    check_options,
    sampling_of,
)
from steering_core.api.questions import SeveralTexts, TextOrMessages, checked_model, open_question, several_questions
from steering_core.api.stored_vectors import find_vectors
from steering_core.engine.sampling import DIVERGED, Request, Stream, sample
from steering_core.engine.sampling import stream as stream_tokens
from steering_core.foundation.bounds import checked_alpha, checked_dose
from steering_core.foundation.cautions import warn
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged, InterventionError
from steering_core.interventions.change import Intervention, Phase
from steering_core.interventions.expression import Expression
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors.allowed_names import KEY, may_be_a_name
from steering_core.vectors.library import WantedLayers, named
from steering_core.vectors.resolve import resolved
from steering_core.vectors.strengths import strengths_in_words
from steering_core.vectors.vector import Vector

AnyIntervention = Vector | Sequence[Vector] | Expression | Intervention | str | None


def intervention(
    model: Model,
    what: AnyIntervention,
    alpha: float | None = None,
    phase: Phase = "generation",
    store: StorePath = None,
    *,
    dose: float | None = None,
    layers: WantedLayers = None,
    same_family: bool = False,
) -> Intervention:
    """What `what` does to this model's stream. Strength and phase are for vectors; expressions say their own.

    `layers` says which layers the names of an expression mean. Warns (SteeringWarning) of a dose beyond the range that
    was measured for a recommendation, and where a strength is neither given nor recommended. Raises VectorMismatch for
    another model's vector, unless `same_family` allows it, InterventionError for a strength that would do nothing or is
    too large, and for a `what` of another type, and what `resolved` raises for an expression.
    """
    checked_model(model)
    found = _intervention(model, what, alpha, phase, store, dose=dose, layers=layers, same_family=same_family)
    for caution in found.cautions:
        warn(caution)
    return found


def _intervention(
    model: Model,
    what: AnyIntervention,
    alpha: float | None,
    phase: Phase,
    store: StorePath,
    *,
    dose: float | None,
    layers: WantedLayers,
    same_family: bool,
) -> Intervention:
    if alpha is not None and dose is not None:
        raise InterventionError("give alpha or dose, not both")
    vectors = _vectors(what)
    if vectors is not None:
        for vector in vectors:
            vector.check(model.identity, same_family=same_family)
        return sum((v.intervention(_alpha(v, alpha, dose), phase) for v in vectors), Intervention())
    if what is not None and not isinstance(what, str | Expression | Intervention):
        raise InterventionError(_cannot_steer(what))
    if (strength := alpha if dose is None else dose) is not None:
        name = "alpha" if dose is None else "dose"
        said = f"{strength:g}*{what}" if dose is None else f"{100 * strength:g}%*{what}"
        meant = said if isinstance(what, str) and (KEY.fullmatch(what) or may_be_a_name(what)) else "2*name or 30%*name"
        raise InterventionError(f"{name} = {strength} is for a vector alone: say how strong in the expression, {meant}")
    if what is None:
        return Intervention()
    if isinstance(what, Intervention):
        return what

    def find(name: str) -> tuple[Vector, ...]:
        """A name's vectors in the store, at the layers that are wanted."""
        return find_vectors(model, name, store, layers=layers, same_family=same_family)

    return resolved(what, find, model.identity.n_layers)


def strengths(
    model: Model,
    expression: Expression,
    store: StorePath = None,
    layers: WantedLayers = None,
    same_family: bool = False,
) -> str:
    """The layers and strengths at which an expression's names act: `sentiment at layer 21 with alpha 2.56, dose 0.26`.

    Empty where nothing is added. `intervention` has checked before that the vectors suit the model; nothing warns here.
    """
    identity = None if same_family else model.identity
    find = cache(lambda name: named(Store.existing(store), name, identity, layers))
    return strengths_in_words(expression, find, model.identity.n_layers)


def _cannot_steer(what: object) -> str:
    if isinstance(what, np.ndarray | list | tuple) or hasattr(what, "__array__"):
        remedy = "make a vector of a direction, Vector.from_numpy(model, direction, layer=15)"
    else:
        remedy = "give a Vector, several, an Intervention, an expression, or None"
    return f"a {type(what).__name__} cannot steer: {remedy}"


def _vectors(what: AnyIntervention) -> Sequence[Vector] | None:
    if isinstance(what, Vector):
        return [what]
    several = isinstance(what, list | tuple) and bool(what) and all(isinstance(one, Vector) for one in what)
    return what if several else None  # type: ignore[return-value]  # each was checked


def _alpha(vector: Vector, alpha: float | None, dose: float | None) -> float | None:
    """The multiplier that alpha or dose asks for; None where neither is given."""
    if dose is not None:
        return vector.alpha(checked_dose(dose))
    if alpha is not None and (isinstance(alpha, bool) or not isinstance(alpha, numbers.Real)):
        raise InterventionError(f"alpha is {alpha!r}, which is no number: give a multiplier, such as 2, or a dose")
    if alpha is not None and vector.residual_norm > 0:
        return checked_alpha(alpha, vector.dose(alpha))
    return alpha


@overload
def generate(model: Model, text: TextOrMessages, what: AnyIntervention = None, **options: Unpack[Options]) -> str: ...


@overload
def generate(
    model: Model, text: SeveralTexts, what: AnyIntervention = None, **options: Unpack[Options]
) -> list[str]: ...


def generate(
    model: Model,
    text: TextOrMessages | SeveralTexts,
    what: AnyIntervention = None,
    **options: Unpack[Options],
) -> str | list[str]:
    """The model's answer to `text` under `what`; to several texts or conversations, in one batch, a list of answers.

    Several come in any iterable: a list, a generator, a NumPy array, a column of pandas or polars. Raises PromptError
    for what is no text and no messages, Diverged where a logit or the stream is inf or nan. The options: `alpha` or
    `dose`, and `phase`, for a vector; `max_tokens`, `temperature`, `seed` and `stop`, or all of these as a `Sampling`;
    a `system` prompt; `chat=False` for raw text; the `store` that knows the vectors' names.
    """
    several = several_questions(text)
    found = _texts(model, several or [cast("TextOrMessages", text)], [steered(model, what, options)], options)
    return found if several else found[0]


def compare(
    model: Model, text: TextOrMessages, interventions: Sequence[AnyIntervention], **options: Unpack[SamplingOptions]
) -> list[str]:
    """The answers under each of `interventions`, in one batch that shares the prompt.

    Options are as in `generate`, without a strength.
    """
    check_options(options, SamplingOptions)
    return _texts(
        model, [text], [intervention(model, what, store=options.get("store")) for what in interventions], options
    )


def stream(
    model: Model, text: TextOrMessages, what: AnyIntervention = None, **options: Unpack[Options]
) -> Iterator[str]:
    """The answer of `generate` piece by piece, as it is drawn. Options and errors are the same."""
    steering, drawn = steered(model, what, options), sampling_of(options)
    question = open_question(model, text, options.get("system"), options.get("chat"))
    requests = [Request(question.tokens, steering, drawn.seed)]
    with stream_tokens(model, requests, drawn.max_tokens, drawn.temperature, drawn.stop) as tokens:
        yield from pieces(model, tokens, steering)


def steered(model: Model, what: AnyIntervention, options: Options) -> Intervention:
    """`intervention` of `what` with the strength, phase and store among the options. Raises TypeError for others."""
    check_options(options, Options)
    alpha, phase = options.get("alpha"), options.get("phase", "generation")
    return intervention(model, what, alpha, phase, options.get("store"), dose=options.get("dose"))


def _texts(
    model: Model, texts: Sequence[TextOrMessages], steerings: Sequence[Intervention], options: SamplingOptions
) -> list[str]:
    """The answers to each text under each intervention, all in one batch."""
    drawn = sampling_of(options)
    asked = [open_question(model, text, options.get("system"), options.get("chat")).tokens for text in texts]
    requests = [Request(tokens, steering, drawn.seed) for tokens in asked for steering in steerings]
    found = dict(sample(model, requests, drawn.max_tokens, drawn.temperature, Work(), stop=drawn.stop))
    for i, request in enumerate(requests):
        if found[i].finish == DIVERGED:
            raise diverged(model, request.intervention)
    return [found[i].text for i in range(len(requests))]


def pieces(model: Model, tokens: Stream, steering: Intervention) -> Iterator[str]:
    """The text of a stream of one row. Raises Diverged."""
    for token in tokens:
        yield token.text
        if token.finish == DIVERGED:
            raise diverged(model, steering)


def diverged(model: Model, steering: Intervention) -> Diverged:
    """The error that names the layers and strengths under which `model` diverged."""
    changes = [f"{c.operation} at layer {c.layer} with {c.amount:g}" for c in steering.changes]
    done = ", ".join(changes) or "no intervention"
    return Diverged(f"{model.name} gave inf or nan under {done}: lower the strength")


@dataclass(frozen=True, repr=False)
class Steered:
    """A model with a vector at `alpha`, by default the recommended one; it answers as a model does.

    formal = Steered(model, vector, alpha=2)
    formal.generate("Tell me about tea.")
    formal.at(3).generate("Tell me about tea.")
    """

    model: Model
    vector: Vector
    alpha: float | None = None
    phase: Phase = "generation"
    sampling: Sampling = field(default=DEFAULT)

    def __post_init__(self) -> None:
        self.intervention.check(self.model.identity.n_layers, self.model.identity.width)

    def __repr__(self) -> str:
        alpha = self.vector.usual_alpha if self.alpha is None else self.alpha
        called = self.vector.name or self.vector.vector_id
        return f"<Steered {self.model.name}: {called} at layer {self.layer} with alpha {alpha:.4g} @{self.phase}>"

    @property
    def intervention(self) -> Intervention:
        """alpha times the vector."""
        return intervention(self.model, self.vector, self.alpha, self.phase)

    @property
    def layer(self) -> int:
        """The layer that is steered."""
        return self.vector.layer

    def at(self, alpha: float) -> "Steered":
        """The model steered along the same vector at another strength."""
        return replace(self, alpha=alpha)

    def generate(self, text: TextOrMessages, system: str | None = None) -> str:
        """The steered answer to `text`."""
        return generate(self.model, text, self.intervention, sampling=self.sampling, system=system)

    def stream(self, text: TextOrMessages, system: str | None = None) -> Iterator[str]:
        """The steered answer, piece by piece."""
        return stream(self.model, text, self.intervention, sampling=self.sampling, system=system)

    def compare(self, text: TextOrMessages, system: str | None = None) -> tuple[str, str]:
        """The answers without and with the vector."""
        base, steered = compare(self.model, text, [None, self.intervention], sampling=self.sampling, system=system)
        return base, steered
