"""Metrics: one number for one held-out item, or for one sampled text, under one intervention.

An item metric is (model, concept, item, cells, work) -> one value a cell; a text metric is (model, texts, work) -> one
value a text. Register one with `@item_metric` or `@text_metric` and give it a line in `names`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.cells import Cell
from steering_core.concepts import Concept, Item
from steering_core.engine import Work
from steering_core.models import Model
from steering_core.prompts import Prompt, item_prompts
from steering_core.teacher_forcing import Scored, log_probabilities


@dataclass(frozen=True)
class Text:
    """A sampled text: the prompt that it answers, without any system prompt, and its tokens."""

    prompt: Prompt
    tokens: tuple[int, ...]


ItemMetric = Callable[[Model, Concept, Item, Sequence[Cell], Work], list[float]]
TextMetric = Callable[[Model, Sequence[Text], Work], list[float]]
ITEM_METRICS: dict[str, ItemMetric] = {}
TEXT_METRICS: dict[str, TextMetric] = {}


def item_metric(function: ItemMetric) -> ItemMetric:
    """Register a metric of held-out items under its function's name."""
    ITEM_METRICS[function.__name__] = function
    return function


def text_metric(function: TextMetric) -> TextMetric:
    """Register a metric of sampled texts under its function's name."""
    TEXT_METRICS[function.__name__] = function
    return function


@item_metric
def propensity(model: Model, concept: Concept, item: Item, cells: Sequence[Cell], work: Work) -> list[float]:
    """Mean log-probability per token of the matching minus the not matching continuation, in nats.

    For continuations of one token it is the difference of their logits, as CAA's A/B evaluation has it.
    """
    sequences = []
    for cell in cells:
        for prompt in item_prompts(model, concept, item, cell.system):
            sequences.append(Scored(prompt.tokens, prompt.response_start, cell.intervention))
    scores = [float(s.mean()) for s in log_probabilities(model, sequences, work)]
    return [matching - other for matching, other in zip(scores[::2], scores[1::2], strict=True)]


@text_metric
def perplexity(model: Model, texts: Sequence[Text], work: Work) -> list[float]:
    """exp of the mean negative log-probability of the text's tokens under the untouched model; nan for no tokens."""
    kept = [i for i, text in enumerate(texts) if text.tokens]
    sequences = [Scored((*texts[i].prompt.tokens, *texts[i].tokens), len(texts[i].prompt.tokens)) for i in kept]
    values = [float("nan")] * len(texts)
    for i, scores in zip(kept, log_probabilities(model, sequences, work), strict=True):
        values[i] = float(np.exp(-scores.mean(dtype=np.float64)))
    return values


@text_metric
def repetition(model: Model, texts: Sequence[Text], work: Work) -> list[float]:
    """Share of the text's three-token runs that occurred before in it; 0 for texts of fewer than four tokens."""
    return [_repeated(text.tokens) for text in texts]


def _repeated(tokens: Sequence[int], n: int = 3) -> float:
    runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
