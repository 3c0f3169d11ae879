"""Scorers: what gives a sampled text its value where a metric's name does not say it all (`probe`, `judge`).

A scorer describes itself, and every measurement names the scorer that it came from (table `scorers`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from steering_core.foundation.counting import Work
from steering_core.foundation.keys import content_key
from steering_core.prompts import Prompt


@dataclass(frozen=True)
class ScoredText:
    """A sampled text: the prompt that it answers, without any system prompt, its tokens, and why it ended.

    `written_by` is the intervention_id and the control of the cell that it was sampled under.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    text: str
    finish: str
    written_by: tuple[str, str | None] = ("", None)


@dataclass(frozen=True)
class ScoredBy:
    """Who gave a value: a model, its version, and all else that made it (`definition`, JSON-like)."""

    metric: str
    model: str
    version: str
    definition: dict[str, Any] = field(hash=False)

    @property
    def scorer_id(self) -> str:
        """Content key of all of it."""
        return content_key("scorer", self.metric, self.model, self.version, self.definition)

    def columns(self) -> dict[str, str]:
        """The scorer as columns of its table, but for its key."""
        definition = json.dumps(self.definition, sort_keys=True, ensure_ascii=False)
        return {"metric": self.metric, "model": self.model, "version": self.version, "definition": definition}


@dataclass(frozen=True)
class Rating:
    """A value, the scorer that gave it, if any, and its words, where it used words; nan for no usable answer."""

    value: float
    by: ScoredBy | None = None
    reply: str | None = None


class Scorer(Protocol):
    """Gives texts their values for one metric."""

    @property
    def key(self) -> str:
        """Content key of all that is known of the scorer before it is asked."""

    def ratings(self, texts: Sequence[ScoredText], work: Work) -> Iterator[Rating]:
        """A rating for each text, in their order."""
