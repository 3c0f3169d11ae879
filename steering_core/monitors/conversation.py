"""Monitors of conversations: each token's projection on probes, and a verdict for each turn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.concepts.formats.messages import SYSTEM, turns_of
from steering_core.engine.probes import Probe, projections
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import PromptError, VectorError
from steering_core.foundation.user_files import file_text
from steering_core.foundation.validation import counted, shown
from steering_core.models import Model
from steering_core.models.chat_template import Messages
from steering_core.monitors.gates import verdict
from steering_core.prompts import answered_conversation, conversation, prompt
from steering_core.vectors.vector import Vector

MAX_BYTES = 16 << 20  # of a conversation's file


@dataclass(frozen=True)
class Watched:
    """A vector that reads along: the name that it goes by, and its gate over means, where it has one."""

    name: str
    vector: Vector
    gate: Mapping[str, Any] | None = None

    @property
    def probe(self) -> Probe:
        """The engine's probe along the vector."""
        return Probe(self.vector.layer, self.vector.direction)


@dataclass(frozen=True)
class MonitoredTurn:
    """One turn: its phase, its positions `start` .. `end` - 1, its text, and each probe's verdict on it."""

    phase: str
    start: int
    end: int
    text: str
    verdicts: dict[str, dict[str, Any]]


@dataclass(frozen=True, repr=False)
class Monitored:
    """A text as probes read it: the text and the phase of each token, and `values` (probes, tokens), float32.

    A token's value is read at its own position. The verdict on a turn that the model wrote is read where the turn's
    tokens were sampled: one position earlier.
    """

    probes: tuple[str, ...]
    tokens: tuple[str, ...]
    phases: tuple[str | None, ...]
    values: np.ndarray = field(repr=False)
    turns: tuple[MonitoredTurn, ...] = ()

    def __repr__(self) -> str:
        sizes = f"{counted(len(self.tokens), 'token')}, {counted(len(self.turns), 'turn')}"
        return f"<Monitored: {sizes}, read along {', '.join(self.probes)}>"


def monitor(model: Model, conversation: str | Messages, probes: Sequence[Watched]) -> Monitored:
    """How far each token of a conversation, or of a raw text, lies along each probe's vector.

    One pass, which ends at the last probed block. Raises VectorMismatch for another model's vector, PromptError,
    TemplateError.
    """
    if not probes:
        raise VectorError("nothing reads along: name a vector to monitor with")
    for watched in probes:
        watched.vector.check(model.identity)
    tokens = _tokens(model, conversation)
    values = projections(model, tokens, [watched.probe for watched in probes], Work())
    phases: tuple[str | None, ...] = (None,) * len(tokens)
    if not isinstance(conversation, str):
        phases = model.turns.labels(tokens)
    texts = tuple(model.continuation([token]) for token in tokens)
    turns = tuple(_turn(model, tokens, values, probes, run) for run in _runs(phases))
    return Monitored(tuple(watched.name for watched in probes), texts, phases, values, turns)


def _tokens(model: Model, said: str | Messages) -> tuple[int, ...]:
    if isinstance(said, str):
        return prompt(model, said, chat=False).tokens
    if not said:
        raise PromptError("the conversation is empty: give it a message")
    if said[-1]["role"] == "assistant":
        return answered_conversation(model, said[:-1], said[-1]["content"]).tokens
    return conversation(model, said).tokens


def _runs(phases: Sequence[str | None]) -> list[tuple[str, int, int]]:
    """(phase, start, end) of each stretch of positions with one phase; a text without phases is one stretch."""
    if not any(phases):
        return [("text", min(1, len(phases) - 1), len(phases))]
    runs: list[tuple[str, int, int]] = []
    for place, phase in enumerate(phases):
        if phase is None:
            continue
        if runs and runs[-1][0] == phase and runs[-1][2] == place:
            runs[-1] = (phase, runs[-1][1], place + 1)
        else:
            runs.append((phase, place, place + 1))
    return runs


def _turn(
    model: Model, tokens: Sequence[int], values: np.ndarray, probes: Sequence[Watched], run: tuple[str, int, int]
) -> MonitoredTurn:
    phase, start, end = run
    written = phase in ("response", "thinking", "tool")
    said = tokens[start + 1 : end] if written else tokens[start:end]
    read = values[:, start : end - 1] if written and end - start > 1 else values[:, start:end]
    verdicts = {one.name: verdict(row.tolist(), one.gate) for one, row in zip(probes, read, strict=True)}
    return MonitoredTurn(phase, start, end, model.continuation(said), verdicts)


def read_conversation(path: Path) -> list[dict[str, str]]:
    """The conversation in a JSON file: a list of messages (role, content; or from, value), or {"messages": [...]}.

    Raises PromptError for anything else.
    """
    text = file_text(path, PromptError, MAX_BYTES)
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path} is no JSON ({error}): write a list of messages with role and content") from error
    turns = turns_of(held.get("messages", held.get("conversations")) if isinstance(held, dict) else held)
    if turns is None:
        raise PromptError(
            f"{path} holds no conversation, but {shown(held)}: write a list of messages, each "
            '{"role": "user", "content": "Hello"}'
        )
    roles = {True: "assistant", False: "user"}
    return [{"role": "system" if turn.role in SYSTEM else roles[turn.answers], "content": turn.text} for turn in turns]
