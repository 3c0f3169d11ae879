"""`Where`: the token positions at which a change acts, and how strongly at each."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steering_core.foundation.errors import InterventionError

Phase = Literal["all", "prompt", "generation", "response", "thinking", "tool", "system", "user"]
PHASES: tuple[Phase, ...] = ("all", "prompt", "generation", "response", "thinking", "tool", "system", "user")
TURNS: frozenset[Phase] = frozenset(("response", "thinking", "tool", "system", "user"))
"""Phases that the chat template's own markers tell (`models.turns`)."""

Over = Literal["token", "prompt"]
"""Of what a condition is asked: of each token by itself, or once, of the mean over the prompt."""

ScheduleKind = Literal["constant", "first", "decay"]


@dataclass(frozen=True)
class Schedule:
    """How the strength runs over the generated tokens; before them it is 1.

    Step s (0, 1, …) is the position whose output is generated token s. `constant` is 1 at every step; `first` is 1 for
    the first `value` steps and 0 after; `decay` is `value` ** s.
    """

    kind: ScheduleKind = "constant"
    value: float = 1.0

    def weights(self, steps: np.ndarray) -> np.ndarray:
        """The strength at each step (negative ones are in the prompt), (T,) -> (T,) float32."""
        generated = np.maximum(steps, 0)
        if self.kind == "first":
            return (generated < self.value).astype(np.float32)
        if self.kind == "decay":
            return np.power(self.value, generated).astype(np.float32)
        return np.ones(steps.shape, np.float32)

    def check(self) -> None:
        """Raise InterventionError for a schedule that means nothing."""
        if self.kind == "first" and not self.value >= 1:
            raise InterventionError(f"a schedule of the first {self.value:g} tokens does nothing: give 1 or more")
        if self.kind == "decay" and not 0 < self.value <= 1:
            raise InterventionError(f"a decay of {self.value:g} a token: give a factor above 0, and 1 at most")


CONSTANT = Schedule()


@dataclass(frozen=True, eq=False)
class Labels:
    """The phase of `TURNS`, or None, of each of a conversation's first positions.

    As the model writes on, new positions are in the phase of the last one, until a marker in the new text begins
    another. `move` says whether the model's turn has such markers at all.
    """

    phases: tuple[str | None, ...]
    move: bool


@dataclass(frozen=True)
class Where:
    """The token positions at which a change acts: in a phase, and among `positions` or a `span` where one is given.

    `prompt` is every token of the prompt; `generation` is the prompt's last token, whose output is the first new
    token, and everything after it (as CAA steers); `all` is both. `positions` count from 0, negative ones from the end
    of the prompt (-1 is its last token). `span` is a piece of the prompt's text, all tokens of all its occurrences;
    `spans.located` turns it into positions before anything runs.

    The phases of `TURNS` are told by a conversation's `labels`, which `turns.labelled` finds before anything runs:
    `user` and `system` are those turns' own tokens, and `response`, `thinking` and `tool` the positions whose outputs
    make the model's answer, its thoughts, and its calls of tools, in this turn and in earlier ones.
    """

    phase: Phase = "all"
    positions: tuple[int, ...] | None = None
    span: str | None = None
    schedule: Schedule = CONSTANT
    labels: Labels | None = None

    @property
    def moves(self) -> bool:
        """Whether the tokens that the model draws decide where the change acts."""
        return self.phase in TURNS and self.labels is not None and self.labels.move

    def gate(self, positions: np.ndarray, prompt_length: int, turn: str | None = None) -> np.ndarray:
        """The strength at absolute `positions`, (T,) -> (T,) float32: 0 where the change does not act.

        `turn` is the phase of positions after the labelled ones, where it is known.
        """
        if self.span is not None:
            raise InterventionError(f"the span {self.span!r} is not located yet: see spans.located")
        acts = np.ones(positions.shape, bool)
        if self.phase == "prompt":
            acts = positions < prompt_length
        elif self.phase == "generation":
            acts = positions >= prompt_length - 1
        elif self.phase in TURNS:
            acts = self._in_turn(positions, turn)
        if self.positions is not None:
            acts = acts & np.isin(positions, self._absolute(prompt_length))
        weights: np.ndarray = acts * self.schedule.weights(positions - (prompt_length - 1))
        return weights.astype(np.float32)

    def first(self, prompt_length: int) -> float:
        """The first position at which the change acts; infinite where there is none."""
        first = prompt_length - 1 if self.phase == "generation" else 0
        if self.phase in TURNS:
            within = np.flatnonzero(self._in_turn(np.arange(prompt_length), None))
            first = int(within[0]) if len(within) else prompt_length
        if self.positions is not None:
            return min((p for p in self._absolute(prompt_length) if p >= first), default=math.inf)
        return first

    def settled(self, prompt_length: int) -> float:
        """The position from which the strength stays the same for ever; infinite where it never does."""
        ends = [prompt_length if self.phase in TURNS else prompt_length - 1]
        if self.phase == "prompt":
            ends = [prompt_length]
        elif self.schedule.kind == "decay":
            return math.inf
        elif self.schedule.kind == "first":
            ends.append(prompt_length - 1 + math.ceil(self.schedule.value))
        if self.positions is not None:
            ends += [p + 1 for p in self._absolute(prompt_length)]
        return max(ends)

    def check(self) -> None:
        """Raise InterventionError for a place that cannot be."""
        if self.phase not in PHASES:
            raise InterventionError(f"the phase {self.phase!r} is not known: there are {', '.join(PHASES)}")
        if self.positions is not None and self.span is not None:
            raise InterventionError(f"give positions or the span {self.span!r}, not both")
        if self.positions is not None and not self.positions:
            raise InterventionError("an empty list of positions does nothing: name one, or leave positions out")
        self.schedule.check()

    def check_prompt(self, prompt_length: int) -> None:
        """Raise InterventionError for a position before the beginning of a prompt of that many tokens."""
        if outside := [p for p in self.positions or () if p < -prompt_length]:
            raise InterventionError(
                f"position {outside[0]} is before the prompt's beginning: it has {prompt_length} tokens"
            )

    def _in_turn(self, positions: np.ndarray, turn: str | None) -> np.ndarray:
        """Which positions are in the phase, (T,) bool."""
        if self.labels is None:
            raise InterventionError(f"the phase {self.phase} is not labelled yet: see turns.labelled")
        phases = self.labels.phases
        after = phases[-1] if turn is None else turn
        return np.array([(phases[p] if p < len(phases) else after) == self.phase for p in positions.tolist()], bool)

    def _absolute(self, prompt_length: int) -> list[int]:
        return [p if p >= 0 else p + prompt_length for p in self.positions or ()]
