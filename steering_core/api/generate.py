"""Texts from a model under whatever one has in hand: a vector, an expression, an intervention, or nothing.

    import steering_core as steer

    with steer.open_model("smollm2-135m") as model:
        formal = steer.contrast(model, "I would be delighted to assist you.", "yeah sure whatever", layer=15)
        print(steer.generate(model, "Tell me about tea.", formal, alpha=2))
        for piece in steer.stream(model, "Tell me about tea.", "30%*formality @generation"):
            print(piece, end="", flush=True)

What is `what`: None (the model itself), a `Vector` (alpha times it, added from the prompt's last token on), an
expression whose vectors the store knows (`interventions.expression`), or an `Intervention` made by hand.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from steering_core.engine.sampling import DIVERGED, Request, Stream, sample
from steering_core.engine.sampling import stream as stream_tokens
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import Diverged, InterventionError, SamplingError
from steering_core.foundation.keys import MAX_SEED
from steering_core.interventions.change import Intervention, Phase
from steering_core.interventions.expression import Expression
from steering_core.models import Model
from steering_core.prompts import Prompt, prompt
from steering_core.store import Store, default_store
from steering_core.vectors.library import find, save
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

What = Vector | Expression | Intervention | str | None
StorePath = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn: greedy at temperature 0, else with the seed; and where they end.

    Raises SamplingError for what means nothing.
    """

    max_tokens: int = 100
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.max_tokens, int) and self.max_tokens >= 1):
            raise SamplingError(f"max_tokens is {self.max_tokens!r}: give a whole number from 1 on")
        if not 0 <= self.temperature < math.inf:
            raise SamplingError(f"temperature is {self.temperature!r}: give a number from 0 (greedy) on")
        if not (isinstance(self.seed, int) and 0 <= self.seed <= MAX_SEED):
            raise SamplingError(f"seed is {self.seed!r}: give a whole number from 0 to {MAX_SEED}")
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise SamplingError(f"stop is {self.stop!r}: give a tuple of texts, such as ('\\n\\n',)")


DEFAULT = Sampling()


def find_vector(model: Model, name: str, store: StorePath = None, *, same_family: bool = False) -> Vector:
    """The vector that goes by `name` for this model in the store: `concept`, `concept/method/layer`, a key or a name.

    With `same_family` it may be one of another model of the same architecture and width, with a warning. Raises
    VectorNotFound, VectorAmbiguous, VectorMismatch, and StoreError where there is no store.
    """
    found = find(Store.existing(store), name, None if same_family else model.identity)
    found.check(model.identity, same_family=same_family)
    return found


def save_vector(model: Model, vector: Vector, name: str, store: StorePath = None) -> None:
    """Keep `vector` in the store under `name`: expressions, the CLI and the explorer then find it, also after export.

    Raises VectorMismatch for another model's vector, VectorError for a name that is taken or none.
    """
    vector.check(model.identity)
    kept = Store(store or default_store())
    kept.append("models", [asdict(model.identity)])
    save(kept, [vector], name)


def intervention(
    model: Model,
    what: What,
    alpha: float | None = None,
    phase: Phase = "generation",
    store: StorePath = None,
    *,
    same_family: bool = False,
) -> Intervention:
    """What `what` does to this model's stream. Alpha (1 unless given) and phase are a vector's; all else has its own.

    Raises VectorMismatch for another model's vector, unless `same_family` allows it, InterventionError for an alpha
    that would do nothing and for what is none of these, and what `resolved` raises for an expression.
    """
    if isinstance(what, Vector):
        what.check(model.identity, same_family=same_family)
        return what.intervention(1.0 if alpha is None else alpha, phase)
    if alpha is not None:
        raise InterventionError(f"alpha = {alpha:g} is for a vector alone: say how strong in the expression, 2*name")
    if what is None:
        return Intervention()
    if isinstance(what, Intervention):
        return what
    if not isinstance(what, str | Expression):
        raise InterventionError(
            f"a {type(what).__name__} cannot steer: give a Vector, an Intervention, an expression, or None"
        )
    return resolved(
        what, lambda name: find_vector(model, name, store, same_family=same_family), model.identity.n_layers
    )


def open_question(model: Model, text: str, system: str | None = None, chat: bool | None = None) -> Prompt:
    """`text` as the model reads it: in its chat template where it has one, unless `chat` says otherwise."""
    return prompt(model, text, chat=model.chat_template.exists if chat is None else chat, system=system)


def generate(
    model: Model,
    text: str,
    what: What = None,
    *,
    alpha: float | None = None,
    sampling: Sampling = DEFAULT,
    system: str | None = None,
    chat: bool | None = None,
    store: StorePath = None,
) -> str:
    """The model's answer to `text` under `what`. Raises Diverged where a logit or the stream is inf or nan."""
    return compare(model, text, [intervention(model, what, alpha, store=store)], sampling, system, chat)[0]


def compare(
    model: Model,
    text: str,
    whats: Sequence[What],
    sampling: Sampling = DEFAULT,
    system: str | None = None,
    chat: bool | None = None,
    store: StorePath = None,
) -> list[str]:
    """The answers under each of `whats`, in one batch that shares the prompt."""
    tokens = open_question(model, text, system, chat).tokens
    rows = [intervention(model, what, store=store) for what in whats]
    requests = [Request(tokens, row, sampling.seed) for row in rows]
    found = dict(sample(model, requests, sampling.max_tokens, sampling.temperature, Work(), stop=sampling.stop))
    for i, row in enumerate(rows):
        if found[i].finish == DIVERGED:
            raise diverged(model, row)
    return [found[i].text for i in range(len(rows))]


def stream(
    model: Model,
    text: str,
    what: What = None,
    *,
    alpha: float | None = None,
    sampling: Sampling = DEFAULT,
    system: str | None = None,
    chat: bool | None = None,
    store: StorePath = None,
) -> Iterator[str]:
    """The same answer piece by piece, as it is drawn. Raises as `generate` does."""
    row = intervention(model, what, alpha, store=store)
    requests = [Request(open_question(model, text, system, chat).tokens, row, sampling.seed)]
    with stream_tokens(model, requests, sampling.max_tokens, sampling.temperature, sampling.stop) as tokens:
        yield from pieces(model, tokens, row)


def pieces(model: Model, tokens: Stream, row: Intervention) -> Iterator[str]:
    """The text of a stream of one row. Raises Diverged."""
    for token in tokens:
        yield token.text
        if token.finish == DIVERGED:
            raise diverged(model, row)


def diverged(model: Model, row: Intervention) -> Diverged:
    """The error that names the layers and strengths under which `model` diverged."""
    done = ", ".join(f"{c.operation} at layer {c.layer} with {c.amount:g}" for c in row.changes) or "no intervention"
    return Diverged(f"{model.name} gave inf or nan under {done}: lower the strength")


@dataclass(frozen=True)
class Steered:
    """A model with a vector at a strength: ask it as one asks a model.

    formal = Steered(model, vector, alpha=2)
    formal.generate("Tell me about tea.")
    formal.at(3).generate("Tell me about tea.")
    """

    model: Model
    vector: Vector
    alpha: float = 1.0
    phase: Phase = "generation"
    sampling: Sampling = field(default=DEFAULT)

    def __post_init__(self) -> None:
        self.intervention.check(self.model.identity.n_layers, self.model.identity.width)

    @property
    def intervention(self) -> Intervention:
        """alpha times the vector."""
        return intervention(self.model, self.vector, self.alpha, self.phase)

    @property
    def layer(self) -> int:
        """The layer that is steered."""
        return self.vector.layer

    def at(self, alpha: float) -> "Steered":
        """The same at another strength."""
        return replace(self, alpha=alpha)

    def generate(self, text: str, system: str | None = None) -> str:
        """The steered answer to `text`."""
        return generate(self.model, text, self.intervention, sampling=self.sampling, system=system)

    def stream(self, text: str, system: str | None = None) -> Iterator[str]:
        """The steered answer, piece by piece."""
        return stream(self.model, text, self.intervention, sampling=self.sampling, system=system)

    def compare(self, text: str, system: str | None = None) -> tuple[str, str]:
        """The answers without and with the vector."""
        base, steered = compare(self.model, text, [None, self.intervention], self.sampling, system)
        return base, steered
