"""Metrics: one number for one held-out item, neutral prompt, neutral answer or sampled text, under one intervention.

Declare one in `statistics.metric_names` and register its function with `@item_metric`, `@neutral_metric`,
`@answer_metric` or `@text_metric`. A metric of texts that needs more than their tokens is a scorer (`scorers`), which
the `Setup` has.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steering_core.candidates.answers import NeutralAnswer
from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept, Item
from steering_core.engine import trunk
from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.engine.sampling import DIVERGED
from steering_core.engine.teacher_forcing import Scored, cross_entropy_gaps, divergences, log_probabilities
from steering_core.foundation.counting import Work
from steering_core.models import Model
from steering_core.prompts import item_prompts, open_prompt
from steering_core.scores.letters import counterbalanced
from steering_core.scores.scorers import ScoredText, Scorer
from steering_core.statistics.metric_names import of_subjects


@dataclass(frozen=True)
class Setup:
    """What metrics measure with: a model, the concept whose items are asked, scorers of texts, a counter of work."""

    model: Model
    concept: Concept
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    work: Work = field(default_factory=Work)


ItemMetric = Callable[[Setup, Item, Sequence[Cell]], list[float]]
NeutralMetric = Callable[[Setup, str, Sequence[Cell]], list[float]]
AnswerMetric = Callable[[Setup, NeutralAnswer, Sequence[Cell]], list[float]]
TextMetric = Callable[[Setup, Sequence[ScoredText]], list[float]]
PromptsAhead = Iterator[tuple[int, ...]]
"""Tokens of the prompts that a metric is going to read for one subject."""
ITEM_METRICS: dict[str, ItemMetric] = {}
NEUTRAL_METRICS: dict[str, NeutralMetric] = {}
ANSWER_METRICS: dict[str, AnswerMetric] = {}
TEXT_METRICS: dict[str, TextMetric] = {}
READ_FIRST: dict[str, Callable[[Setup, Any, Sequence[Cell]], PromptsAhead]] = {}
"""For metrics that continue prompts from a cache: a subject's prompts, to be read together with other subjects'."""


def read_ahead(setup: Setup, metric: str, asked: Sequence[tuple[Any, Sequence[Cell]]]) -> None:
    """Run the prompts of several subjects through the model in one batch, for a metric of `READ_FIRST`.

    The metric then continues from the caches that are kept. A subject with a cell that acts on the prompt itself is
    left out: such a cell has no cache in common with others.
    """
    if metric in READ_FIRST:
        wanted = [one for one in asked if all(_steers_answers_alone(cell) for cell in one[1])]
        prompts = [tokens for subject, cells in wanted for tokens in READ_FIRST[metric](setup, subject, cells)]
        trunk.read_ahead(setup.model, prompts, setup.work)


def _steers_answers_alone(cell: Cell) -> bool:
    return all(change.where.phase == "generation" for change in cell.intervention.changes)


def item_metric(function: ItemMetric) -> ItemMetric:
    """Register a metric of held-out items, one value a cell, under its function's name. ValueError if undeclared."""
    ITEM_METRICS[of_subjects(function.__name__, "items")] = function
    return function


def neutral_metric(function: NeutralMetric) -> NeutralMetric:
    """Register a metric of neutral prompts, one value a cell, under its function's name. ValueError if undeclared."""
    NEUTRAL_METRICS[of_subjects(function.__name__, "neutral prompts")] = function
    return function


def answer_metric(function: AnswerMetric) -> AnswerMetric:
    """Register a metric of neutral answers, one value a cell, under its function's name. ValueError if undeclared."""
    ANSWER_METRICS[of_subjects(function.__name__, "neutral answers")] = function
    return function


def text_metric(function: TextMetric) -> TextMetric:
    """Register a metric of sampled texts, one value a text, under its function's name. ValueError if undeclared."""
    TEXT_METRICS[of_subjects(function.__name__, "texts")] = function
    return function


@item_metric
def propensity(setup: Setup, item: Item, cells: Sequence[Cell]) -> list[float]:
    """Mean log-probability per token of the matching minus the not matching continuation, in nats.

    For continuations of one token it is the difference of their logits, as CAA's A/B evaluation has it. An item whose
    answers are letters of options is asked twice, with the options exchanged, and averaged: models favour letters.
    """
    versions = counterbalanced(item)
    sequences = []
    for version in versions:
        for cell in cells:
            intervention = cell.intervention  # one object, by which both sides are known to share an intervention
            for prompt in item_prompts(setup.model, setup.concept, version, cell.system):
                sequences.append(Scored(prompt.tokens, prompt.response_start, intervention))
    found = [s.mean(dtype=np.float64) for s in log_probabilities(setup.model, sequences, setup.work)]
    sides = np.array(found).reshape(len(versions), len(cells), 2)
    values: list[float] = (sides[..., 0] - sides[..., 1]).mean(axis=0).tolist()
    return values


def _item_prompts(setup: Setup, item: Item, cells: Sequence[Cell]) -> PromptsAhead:
    for version in counterbalanced(item):
        for system in dict.fromkeys(cell.system for cell in cells):
            matching, _ = item_prompts(setup.model, setup.concept, version, system)
            yield matching.tokens[: matching.response_start]


def _neutral_prompts(setup: Setup, text: str, _: Sequence[Cell]) -> PromptsAhead:
    yield open_prompt(setup.model, setup.concept, text).tokens


def _answered_prompts(_: Setup, answer: NeutralAnswer, __: Sequence[Cell]) -> PromptsAhead:
    yield answer.prompt


READ_FIRST |= {"propensity": _item_prompts, "kl": _neutral_prompts, "damage": _answered_prompts}


@item_metric
def first_order(setup: Setup, item: Item, cells: Sequence[Cell]) -> list[float]:
    """First-order estimate of each cell's odd effect: what it adds times the propensity's gradient at 0, in nats.

    It is exact where additions are small. One pass forwards and one back serve all cells, at all layers.
    Cells add in the phase `generation`. Raises NoGradient for a model that MLX cannot differentiate.
    """
    versions = counterbalanced(item)
    sides = [side for version in versions for side in item_prompts(setup.model, setup.concept, version)]
    layers = sorted({layer for cell in cells for layer in cell.layers})
    if not layers:
        return [0.0] * len(cells)
    read = GivenAnswers(
        setup.model, [GivenAnswer(side.tokens, side.response_start) for side in sides], layers, setup.work
    )
    nothing = {layer: np.zeros((len(sides), setup.model.identity.width), np.float32) for layer in layers}
    by_layer = read.gradients(range(len(sides)), nothing).by_layer
    signs = np.tile([1.0, -1.0], len(versions)) / len(versions)
    slopes = {layer: signs @ gradient for layer, gradient in by_layer.items()}
    added = [cell.intervention.changes for cell in cells]
    return [float(sum(c.amount * (slopes[c.layer] @ c.direction.astype(np.float64)) for c in some)) for some in added]


@neutral_metric
def kl(setup: Setup, text: str, cells: Sequence[Cell]) -> list[float]:
    """KL divergence of the next-token distribution after a neutral prompt from the untouched model's, in nats.

    KL(untouched || steered) at the prompt's last token, after Arditi et al. 2024.
    """
    prompt = open_prompt(setup.model, setup.concept, text)
    return divergences(setup.model, prompt.tokens, [cell.intervention for cell in cells], setup.work)


@answer_metric
def damage(setup: Setup, answer: NeutralAnswer, cells: Sequence[Cell]) -> list[float]:
    """How much more surprising to the untouched model next tokens become under steering, along its own answer.

    Cross-entropy H(steered, untouched) minus H(untouched, untouched) at the sampling temperature, as a mean over the
    answer's tokens, in nats per token. It predicts the logarithm of the perplexity ratio of steered texts, and no text
    is sampled for it (docs/evaluation.md).
    """
    interventions = [cell.intervention for cell in cells]
    return cross_entropy_gaps(setup.model, answer.prompt, answer.tokens, interventions, answer.temperature, setup.work)


@text_metric
def perplexity(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
    """exp of the mean negative log-probability of the text's tokens under the untouched model; nan for no tokens."""
    kept = [i for i, text in enumerate(texts) if text.tokens]
    sequences = [Scored((*texts[i].prompt.tokens, *texts[i].tokens), len(texts[i].prompt.tokens)) for i in kept]
    values = [float("nan")] * len(texts)
    for i, scores in zip(kept, log_probabilities(setup.model, sequences, setup.work), strict=True):
        values[i] = float(np.exp(-scores.mean(dtype=np.float64)))
    return values


@text_metric
def repetition(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
    """Share of the text's three-token runs that occurred before in it; 0 for texts of fewer than four tokens."""
    return [_repeated(text.tokens, 3) for text in texts]


@text_metric
def distinct_2(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
    """Share of the text's two-token runs that differ from all before; 1 for none. Li et al. 2016, text by text."""
    return [1 - _repeated(text.tokens, 2) for text in texts]


@text_metric
def diverged(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
    """1 for a text whose sampling met inf or nan, otherwise 0; the mean is the share of diverged texts."""
    return [float(text.finish == DIVERGED) for text in texts]


@text_metric
def words(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
    """(p - n) / (p + n) for the p positive and n negative words of the concept in a text; 0 where it has neither."""
    positive, negative = (_pattern(side) for side in (setup.concept.words.positive, setup.concept.words.negative))
    values = []
    for text in texts:
        for_it, against = (len(side.findall(text.text)) if side else 0 for side in (positive, negative))
        values.append((for_it - against) / max(for_it + against, 1))
    return values


def _pattern(listed: Sequence[str]) -> re.Pattern[str] | None:
    """Any of the listed words, whole, whatever its case."""
    choice = "|".join(re.escape(word) for word in sorted(listed, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{choice})(?!\w)", re.IGNORECASE) if listed else None


def _repeated(tokens: Sequence[int], n: int) -> float:
    runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
