"""Drift: how far steering moves the model along its own text, as the divergence of each next token's distribution.

KL(steered || untouched) at the tokens that the steered model wrote, teacher-forced: both models read the same text, and
their distributions of each of its first n tokens are compared, at temperature 1. By the chain rule the sum over a text,
averaged over texts sampled at temperature 1, is the KL divergence between the distributions of whole texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.engine.teacher_forcing import Scored, next_token_distributions
from steering_core.foundation.counting import Work
from steering_core.foundation.keys import content_key
from steering_core.models import Model
from steering_core.prompts import open_prompt
from steering_core.scores.scorers import Rating, ScoredText, Scorer

DRIFT_VERSION = 1
_TEXTS_AT_ONCE = 8  # whose distributions are held: 2 x 8 x 32 tokens x 50,000 numbers are 100 MB
Summary = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Drift:
    """The divergences of texts that were sampled under one of `cells`, over the first `n` tokens of each.

    They are computed once for both `scorers`.
    """

    model: Model
    concept: Concept
    cells: Sequence[Cell]
    n: int
    known: dict[ScoredText, np.ndarray] = field(default_factory=dict, compare=False)

    def scorers(self) -> dict[str, Scorer]:
        """A scorer for each metric: the mean over a text's tokens, and the 95th percentile."""
        summaries: Mapping[str, Summary] = {
            "generated_kl": lambda nats: float(nats.mean()),
            "generated_kl_p95": lambda nats: float(np.percentile(nats, 95)),
        }
        return {metric: DriftScorer(self, metric, of) for metric, of in summaries.items()}

    def of(self, texts: Sequence[ScoredText], work: Work) -> list[np.ndarray]:
        """KL(steered || untouched) at each of the first n tokens of every text, (<= n,) in nats.

        0 for a text that nothing steered, without a pass; nan where logits are not finite; empty for a text without a
        token.
        """
        todo = [text for text in dict.fromkeys(texts) if text not in self.known]
        for begin in range(0, len(todo), _TEXTS_AT_ONCE):
            some = todo[begin : begin + _TEXTS_AT_ONCE]
            self.known.update(zip(some, self._divergences(some, work), strict=True))
        return [self.known[text] for text in texts]

    def _divergences(self, texts: Sequence[ScoredText], work: Work) -> list[np.ndarray]:
        moved = [i for i, text in enumerate(texts) if text.tokens and self._changes_something(text)]
        both = [sequence for i in moved for sequence in (self._written(texts[i]), self._read(texts[i]))]
        found = next_token_distributions(self.model, both, work)
        nats = [np.zeros(min(len(text.tokens), self.n)) for text in texts]
        for i, p, q in zip(moved, found[::2], found[1::2], strict=True):
            nats[i] = (np.exp(p) * (p - q)).sum(axis=-1, dtype=np.float64)  # (n, V) -> (n,)
        return nats

    @cached_property
    def _cell(self) -> dict[tuple[str, str | None], Cell]:
        return {cell.key: cell for cell in self.cells}

    def _changes_something(self, text: ScoredText) -> bool:
        cell = self._cell[text.written_by]
        return cell.system is not None or bool(cell.intervention.changes)

    def _read(self, text: ScoredText) -> Scored:
        """The text as the untouched model reads it."""
        return Scored((*text.prompt.tokens, *text.tokens[: self.n]), len(text.prompt.tokens))

    def _written(self, text: ScoredText) -> Scored:
        """The text as its writer read it: under the cell's intervention, after its system prompt."""
        cell, prompt = self._cell[text.written_by], text.prompt
        if cell.system is not None:
            prompt = open_prompt(self.model, self.concept, prompt.text, cell.system)
        return Scored((*prompt.tokens, *text.tokens[: self.n]), len(prompt.tokens), cell.intervention)


@dataclass(frozen=True)
class DriftScorer:
    """A scorer of texts: `summary` of each text's divergences token by token."""

    drift: Drift
    metric: str
    summary: Summary

    @property
    def key(self) -> str:
        """Content key of the metric and its tokens; what wrote a text is part of the text's own key."""
        return content_key("drift", DRIFT_VERSION, self.metric, self.drift.n)

    def ratings(self, texts: Sequence[ScoredText], work: Work) -> Iterator[Rating]:
        """A number for each text, in nats; nan for a text without a token."""
        return (Rating(self.summary(nats) if len(nats) else float("nan")) for nats in self.drift.of(texts, work))
