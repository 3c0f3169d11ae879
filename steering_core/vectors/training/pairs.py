"""Pairs for training: the answers of a concept's split, which of them are paired, and where each answer starts.

Unpaired texts are paired at random: each text of the larger side once, those of the smaller as evenly as can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.engine.gradients import GivenAnswer
from steering_core.foundation.sequences import common_length
from steering_core.prompts import Prompt
from steering_core.vectors.shuffling import mixed_sides, n_moved

AnswerPair = tuple[GivenAnswer, GivenAnswer]
"""A pair's positive and negative answer; nearly always to the same prompt."""


@dataclass(frozen=True)
class AnswerSides:
    """Positive and negative answers that are not paired."""

    positive: tuple[GivenAnswer, ...]
    negative: tuple[GivenAnswer, ...]


SplitAnswers = Sequence[AnswerPair] | AnswerSides
"""A concept's answers in one split: pairs, or unpaired answers of either side."""


def answer_rows(answered: SplitAnswers) -> list[GivenAnswer]:
    """The answers one after another: both of each pair in turn, or one side and then the other."""
    if isinstance(answered, AnswerSides):
        return [*answered.positive, *answered.negative]
    return [answer for pair in answered for answer in pair]


def answer_pairs(answered: SplitAnswers, seed: int | None = None) -> np.ndarray:
    """The indices in `answer_rows` of the positive and the negative answer of each pair, (n, 2).

    With a seed the labels are shuffled: half of the pairs have their sides exchanged, and unpaired answers change sides
    until either side has the same share of positive ones. There is no pair where a side of unpaired answers is empty.
    """
    if isinstance(answered, AnswerSides):
        return _random_pairs(len(answered.positive), len(answered.negative), seed)
    pairs = np.arange(2 * len(answered)).reshape(-1, 2)
    if seed is not None:
        exchanged = np.random.default_rng(seed).permutation(len(pairs))[: len(pairs) // 2]
        pairs[exchanged] = pairs[exchanged, ::-1]
    return pairs


def _random_pairs(n: int, m: int, seed: int | None) -> np.ndarray:
    """Random pairs of n positive rows and the m negative ones after them, (max(n, m), 2); a seed shuffles labels."""
    if n == 0 or m == 0:
        return np.empty((0, 2), int)
    random = np.random.default_rng(0 if seed is None else seed)
    sides = mixed_sides(n, m, 0 if seed is None else n_moved(n, m), random)
    return np.stack([np.resize(side, max(n, m)) for side in sides], axis=1)


def answer_pair(positive: Prompt, negative: Prompt) -> AnswerPair:
    """The sides of a pair as answers that start at the same token; in bare texts it is the first in which they differ.

    Raises PromptError for a text without a second token.
    """
    sides = positive.tokens, negative.tokens
    start, shortest = min(positive.response_start, negative.response_start), min(map(len, sides))
    if start >= shortest:
        shared = common_length(*sides)
        start = shared if shared < shortest else 1
    one, other = (GivenAnswer(tokens, max(1, start)) for tokens in sides)
    return one, other


def lone_answer(text: Prompt) -> GivenAnswer:
    """An unpaired text as an answer; in a bare text it starts at the second token.

    Raises PromptError for a text without a second token.
    """
    start = text.response_start
    return GivenAnswer(text.tokens, max(1, start) if start < len(text.tokens) else 1)


def split_answers(positive: Sequence[Prompt], negative: Sequence[Prompt], paired: bool) -> SplitAnswers:
    """The prompts of either side of a split as answers: of pairs, or unpaired."""
    if paired:
        return list(map(answer_pair, positive, negative))
    return AnswerSides(tuple(map(lone_answer, positive)), tuple(map(lone_answer, negative)))
