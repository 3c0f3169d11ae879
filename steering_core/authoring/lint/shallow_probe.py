"""Probes without a model: how well shallow features alone tell the two sides apart."""

from collections.abc import Callable, Sequence

import numpy as np

from steering_core.authoring.lint.sided import sided_pairs
from steering_core.authoring.lint.wording import surface
from steering_core.concepts.concept import Concept, Split
from steering_core.statistics.separation import auc

Features = Callable[[str], dict[str, float]]
PairTexts = tuple[str, str]  # the positive and the negative text of a pair
RIDGE = 0.1  # of the features' mean squared length
FOLDS = 10
MAX_PAIRS = 1000


def probe_accuracy(sides: Sequence[PairTexts], features: Features) -> float:
    """Share of held-out texts whose side a linear probe on `features` names, over ten folds; sides stay together."""
    sides = sides[:MAX_PAIRS]
    folds = np.arange(len(sides)) % FOLDS
    right: list[np.ndarray] = []
    for fold in range(min(FOLDS, len(sides))):
        train = [side for side, f in zip(sides, folds, strict=True) if f != fold]
        test = [side for side, f in zip(sides, folds, strict=True) if f == fold]
        positive, negative = probe_scores(train, test, features)
        right += [0.5 + np.sign(positive) / 2, 0.5 - np.sign(negative) / 2]  # undecided is half right
    return float(np.concatenate(right).mean())


def baseline_auc(concept: Concept, split: Split, features: Features = surface) -> float:
    """AUC of a probe on `features` of the training pairs, on the pairs of `split`: what a vector has to beat."""

    def sides(part: Split) -> list[PairTexts]:
        """The texts of a split's pairs, positive first."""
        return [(positive.text, negative.text) for positive, negative in sided_pairs(concept, part)]

    return auc(*probe_scores(sides("train")[:MAX_PAIRS], sides(split), features))


def probe_scores(
    train: Sequence[PairTexts], test: Sequence[PairTexts], features: Features
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the positive and of the negative texts of `test`, (M,) each, by a ridge probe fitted to `train`."""
    rows = [features(text) for side in (*train, *test) for text in side]
    place = {name: i for i, name in enumerate(dict.fromkeys(name for row in rows for name in row))}
    x = np.zeros((len(rows), len(place)))
    for i, row in enumerate(rows):
        for name, value in row.items():
            x[i, place[name]] = value
    n = 2 * len(train)
    spread = x[:n].std(axis=0)
    kept = spread > 0
    if not kept.any():
        return np.zeros(len(test)), np.zeros(len(test))
    x = (x[:, kept] - x[:n, kept].mean(axis=0)) / spread[kept]
    kernel = x @ x[:n].T / kept.sum()  # (N + M, N)
    y = np.where(np.arange(n) % 2, -1.0, 1.0)
    weights = np.linalg.solve(kernel[:n] + RIDGE * np.eye(n), y)
    scores = kernel[n:] @ weights
    return scores[::2], scores[1::2]
