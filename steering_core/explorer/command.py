"""A request to steer as the command that gives its steered text: `steer generate MODEL PROMPT --steer EXPRESSION …`."""

import shlex
from dataclasses import dataclass

from steering_core.explorer.drafts import Drafts
from steering_core.explorer.planned import SteerRequest, planned
from steering_core.foundation.errors import PromptError, VectorNotFound
from steering_core.interventions.expression import Expression
from steering_core.models import Model, ModelIdentity
from steering_core.store import Store
from steering_core.store.commands import store_option
from steering_core.vectors import library


@dataclass(frozen=True)
class Command:
    """The words of a command, and the expression among them."""

    words: tuple[str, ...]
    expression: str

    @property
    def line(self) -> str:
        """The command as a shell takes it, with quotes where they are needed."""
        return shlex.join(self.words)


def command(model: Model, store: Store, drafts: Drafts, wanted: SteerRequest) -> Command:
    """What draws the steered text of `wanted` again. For the accelerator's thread.

    Raises VectorNotFound for a contrast that is not saved, since the command line steers with vectors of the library,
    and PromptError for a conversation of several turns, since it answers one prompt.
    """
    if wanted.history:
        raise PromptError("`steer generate` answers one prompt: copy several turns as Python or curl")
    expression = planned(model, store, drafts, wanted.steering).expression
    _check_saved(model, store, drafts, expression)
    options = [
        *(["--steer", str(expression)] if expression.clauses else []),
        *("--max-tokens", str(wanted.max_tokens), "--temperature", repr(wanted.temperature)),
        *("--seed", str(wanted.seed)),
        *(["--system", wanted.system] if wanted.system else []),
        *([] if wanted.chat else ["--raw"]),
        *(word for text in wanted.stop for word in ("--stop", text)),
    ]
    options += store_option(store.root)
    asked = [wanted.model, wanted.prompt]
    dashed = any(text.startswith("-") for text in asked)  # else it would be read as an option
    words = [*options, "--", *asked] if dashed else [*asked, *options]
    return Command(("steer", "generate", *words), str(expression))


def is_saved(store: Store, vector_id: str, identity: ModelIdentity) -> bool:
    """Whether the library has the vector of that key, which may be a draft."""
    try:
        library.find(store, vector_id, identity)
    except VectorNotFound:
        return False
    return True


def _check_saved(model: Model, store: Store, drafts: Drafts, expression: Expression) -> None:
    for name in expression.names:
        if drafts.find(name) is not None and not is_saved(store, name, model.identity):
            raise VectorNotFound("save the typed contrast first: a command names vectors of the library")
