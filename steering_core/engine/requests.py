"""What is asked of sampling and what it gives: `Request`, and `Token` by token or a whole `Sample`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from steering_core.engine.probes import Probe
from steering_core.engine.recipes import Recipe
from steering_core.interventions.change import Intervention
from steering_core.models import Model

DIVERGED, STOPPED, FULL = "diverged", "stop", "length"


@dataclass(frozen=True)
class Request:
    """One text to sample: a prompt's tokens, what is done to the residual stream, and the seed of its randomness.

    `max_tokens`, `recipe` and `stop` are the common ones (`Limits`) where they are not given. A `max_tokens` above the
    common limit has no effect, and the model's context ends every text. Each token brings the reading of each of
    `probes`. With `logprobs` it also brings its log-probability, and the `logprobs` likeliest tokens with theirs.
    """

    tokens: tuple[int, ...]
    intervention: Intervention = Intervention()
    seed: int = 0
    max_tokens: int | None = None
    recipe: Recipe | None = None
    stop: tuple[str, ...] | None = None
    probes: tuple[Probe, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True)
class Sample:
    """What was sampled: token ids, with the stop token where one ended it, why it ended, and what it says.

    `finish` is stop (a stop token or string), length, or diverged (a logit was inf or nan). The text is
    without stop token and stop string.
    """

    tokens: tuple[int, ...]
    finish: str
    text: str


class Token(NamedTuple):
    """One new token of one row (its place among the requests), and the piece of text that became certain with it.

    `token` is None where a row ended without one (diverged). `finish` is None while the row goes on. `logprob` and
    `likeliest`, pairs of a token and its log-probability, are there where the request asked for them.
    """

    row: int
    token: int | None
    text: str
    finish: str | None
    projections: tuple[float, ...] = ()
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Limits:
    """How the texts of all requests are drawn and where they end, unless a request says otherwise."""

    max_tokens: int
    temperature: float
    stop: tuple[str, ...] = ()

    def recipe(self, request: Request) -> Recipe:
        """How the request's tokens are chosen."""
        return request.recipe or Recipe(self.temperature)

    def stops(self, request: Request) -> tuple[str, ...]:
        """The strings that end the request's text."""
        return self.stop if request.stop is None else request.stop

    def to_draw(self, model: Model, request: Request) -> int:
        """How many tokens are drawn at most: the least of both limits and the room left in the model's context."""
        wanted = self.max_tokens if request.max_tokens is None else min(request.max_tokens, self.max_tokens)
        context = model.identity.context
        return min(wanted, max(1, context - len(request.tokens))) if context else wanted

    def end(self, model: Model, request: Request) -> int:
        """How many tokens the request's prompt and text have at most."""
        return len(request.tokens) + self.to_draw(model, request)


def read_together(rows: Mapping[int, Request], mixed: bool) -> list[list[int]]:
    """Rows grouped by whose prompts are read together: of similar lengths with `mixed`, else of equal length.

    Padding costs what it is long, so a group's longest prompt has at most twice its shortest and 64 tokens more.
    """
    order = sorted(rows, key=lambda row: (len(rows[row].tokens), rows[row].tokens))
    groups: list[list[int]] = []
    for row in order:
        length = len(rows[row].tokens)
        shortest = len(rows[groups[-1][0]].tokens) if groups else -1
        if groups and (length <= 2 * shortest + 64 if mixed else length == shortest):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
