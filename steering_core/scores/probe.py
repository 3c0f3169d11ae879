"""The probe: a classifier of texts, trained on activations that the steering vector never saw.

It is a logistic regression on the untouched model's mean activation over an answer, trained on the concept's validation
and test pairs, since vectors are derived from the training pairs, and at a layer where nothing is steered. So a vector
cannot score well by lying along the probe: no pair and no layer is shared, and the text is read by the model as it is.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.extract import extract
from steering_core.activations.passes import plan_passes
from steering_core.concepts import SIDES, Concept, Split
from steering_core.foundation.counting import Work
from steering_core.foundation.keys import content_key
from steering_core.models import Model
from steering_core.prompts import Prompt, sided_prompt
from steering_core.scores.scorers import Rating, ScoredBy, ScoredText
from steering_core.statistics.separation import auc
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, read_contrasts
from steering_core.vectors.linear import logistic_regression, one_thread

log = logging.getLogger(__name__)

PROBE_VERSION = 1
SPLITS: tuple[Split, ...] = ("validation", "test")  # of the pairs that it is trained on: vectors are made of the others
POSITION = "response"  # whatever the vectors read: a text is judged as a whole
DEPTH = 2 / 3  # of the model: after the usual steered layers, where sides are still told apart well
MIN_PAIRS = 4
MIN_AUC = 0.8  # on the vector's own pairs, which the probe has not seen; below it the probe says little


@dataclass(frozen=True)
class ProbeWeights:
    """P(positive) = sigmoid(weights · activation + bias), weights (D,); `auc` is on pairs that training did not see."""

    weights: np.ndarray
    bias: float
    auc: float

    def probabilities(self, activations: np.ndarray) -> np.ndarray:
        """P(positive) of each row, (N, D) -> (N,)."""
        log_odds = activations.astype(np.float64) @ self.weights + self.bias
        found: np.ndarray = np.exp(-np.logaddexp(0, -log_odds))
        return found


@dataclass(frozen=True)
class TextProbe:
    """A concept's probe at one layer; it is trained when the first text asks for it."""

    model: Model
    store: Store
    concept: Concept
    layer: int

    @cached_property
    def key(self) -> str:
        """Content key of what the probe is made of."""
        return content_key("probe", self.model.identity.model_id, self._made_of)

    def ratings(self, texts: Sequence[ScoredText], work: Work) -> Iterator[Rating]:
        """Probability that each text is of the concept's positive side, 0 to 1; nan for a text without tokens."""
        stops = self.model.stop_tokens
        kept = [i for i, text in enumerate(texts) if set(text.tokens) - stops]
        activations = answer_activations(self.model, [texts[i] for i in kept], self.layer, work)  # (N, D)
        values = np.full(len(texts), np.nan)
        values[kept] = self.trained.probabilities(activations)
        definition = self._made_of | {"n_pairs": _n_training(self.concept), "auc": round(self.trained.auc, 6)}
        by = ScoredBy("probe", self.model.name, self.model.identity.model_id, definition)
        return (Rating(float(value), by) for value in values)

    @cached_property
    def trained(self) -> ProbeWeights:
        """The probe's weights, from the store's activations; what the store lacks is extracted first."""
        seen, unseen = _contrasts(self.model, self.store, self.concept, [SPLITS, ("train",)], self.layer)
        weights, bias = _fitted(seen)
        found = ProbeWeights(weights, bias, auc(unseen.positive @ weights, unseen.negative @ weights))
        if found.auc < MIN_AUC:
            named = f"{self.concept.name} on {self.model.name}"
            log.warning("the probe for %s hardly tells pairs apart: AUC %.2f", named, found.auc)
        return found

    @property
    def _made_of(self) -> dict[str, Any]:
        of = {"concept_id": self.concept.concept_id, "splits": list(SPLITS), "version": PROBE_VERSION}
        return of | {"layer": self.layer, "position": POSITION}


def probe_for(model: Model, store: Store, concept: Concept, steered: Collection[int]) -> TextProbe | None:
    """The concept's probe at a layer that is not `steered`; None, with a warning, where too few pairs are left."""
    layer, n = _free_layer(model.identity.n_layers, steered), _n_training(concept)
    if layer is None or n < MIN_PAIRS:
        why = "every layer is steered" if layer is None else f"{n} validation and test pairs, {MIN_PAIRS} needed"
        _tell_no_probe(concept.name, model.name, why)
        return None
    return TextProbe(model, store, concept, layer)


@cache  # once, and not for validation and test each
def _tell_no_probe(concept: str, model: str, why: str) -> None:
    log.warning("no probe for %s on %s: %s", concept, model, why)


def _n_training(concept: Concept) -> int:
    """The pairs, or texts of the smaller side, that a probe is trained on."""
    return min(sum(len(concept.texts_in(split, side)) for split in SPLITS) for side in SIDES)


def answer_activations(model: Model, texts: Sequence[ScoredText], layer: int, work: Work) -> np.ndarray:
    """Mean activation of each text's own tokens, (N, D) float32, read by the untouched model; prompts run once."""
    prompts = [
        Prompt((*text.prompt.tokens, *text.tokens), text.text, len(text.prompt.tokens), text.prompt.tokenizer_id)
        for text in texts
    ]
    found = np.empty((len(texts), model.identity.width), np.float32)
    reading = Reading((layer,), POSITION)
    capture = Capture(model, prompts, reading, work)
    for captured in capture.run(plan_passes([prompt.tokens for prompt in prompts], cost_here(model, reading))):
        found[list(captured.rows)] = captured.values[:, 0]
    return found


def _free_layer(n_layers: int, steered: Collection[int]) -> int | None:
    """The layer nearest to `DEPTH` at which nothing is steered, of two the later; None where all are steered."""
    free = [layer for layer in range(n_layers) if layer not in steered]
    return min(free, key=lambda layer: (abs(layer - DEPTH * (n_layers - 1)), -layer), default=None)


def _contrasts(
    model: Model, store: Store, concept: Concept, groups: Sequence[Sequence[Split]], layer: int
) -> list[Contrast]:
    """The activations of each group of splits at one layer."""
    prompts = [
        [
            [sided_prompt(model, concept, text) for split in splits for text in concept.texts_in(split, side)]
            for side in SIDES
        ]
        for splits in groups
    ]
    extract(model, store, [one for sides in prompts for side in sides for one in side], [layer], POSITION)
    ids = [[tuple(one.prompt_id for one in side) for side in sides] for sides in prompts]
    sides = [PromptSides(positive, negative, (), concept.unpaired is None) for positive, negative in ids]
    return [next(read_contrasts(store, model.identity, each, [layer], POSITION)) for each in sides]


@one_thread()
def _fitted(contrast: Contrast) -> tuple[np.ndarray, float]:
    """Weights (D,) and bias of a logistic regression on standardised activations, for activations as they are."""
    rows = np.concatenate([contrast.positive, contrast.negative]).astype(np.float64)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    sides = ((side - mean) / scale for side in (contrast.positive, contrast.negative))
    weights, bias = logistic_regression(*sides, intercept=True)
    return weights / scale, bias - float(mean @ (weights / scale))
