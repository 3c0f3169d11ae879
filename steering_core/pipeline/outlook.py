"""Outlook: how many tokens a whole run reads and draws, stage by stage, before it runs.

The search decides as it goes, so it is counted for its usual course: every direction is screened on a few items and
answers, the shortlist is measured on all of them, and every draw of permuted labels at its best layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from steering_core.candidates.generations import asked
from steering_core.concepts import SIDES, Concept, Item, Split
from steering_core.evaluation.chance import DAMAGE_ANSWERS
from steering_core.evaluation.damage import FEW_ANSWERS
from steering_core.evaluation.search import FEW_ROUNDS, KEPT, SCREEN_ITEMS
from steering_core.models import Model
from steering_core.pipeline.wanted import (
    AUTO_DOSES,
    TRAINED_LAYERS,
    answered,
    capability_sets,
    grid_layers,
    held_out,
    side_effect_tokens,
    training_passes,
)
from steering_core.prompts import item_prompts, open_prompt, sided_prompt
from steering_core.scores.capabilities import tokens_of
from steering_core.scores.letters import counterbalanced
from steering_core.spec import Spec
from steering_core.vectors.methods import is_joint, is_trained, method_name

BACKWARD = 3  # a pass forwards and back takes the time of three passes forwards
ROUNDS = 3  # doses of a shortlisted direction on all answers
READ_AGAIN = 2  # passes over a text that scores it: by the untouched model, and by the probe or the steered one
COMBINED = 2  # combinations of the best vectors


@dataclass(frozen=True)
class Outlook:
    """Tokens that the stages of a run take for one model and all concepts, where the store has nothing of them."""

    training: int = 0
    texts: int = 0
    scores: int = 0
    side_effects: int = 0
    capabilities: int = 0


def outlook(spec: Spec, model: Model, concepts: Sequence[Concept]) -> Outlook:
    """The outlook of a spec's run on one model. Raises LayerNotFound for layers that the model lacks."""
    parts = [_Cell(spec, model, concept) for concept in concepts]
    passes = training_passes(spec) / max(len(concepts), 1)
    return Outlook(
        training=round(BACKWARD * passes * sum(part.pair_tokens() for part in parts)) if passes else 0,
        texts=sum(part.texts() for part in parts),
        scores=sum(part.scores() for part in parts),
        side_effects=side_effect_tokens(spec, model, concepts),
        capabilities=tokens_of(model, capability_sets(spec), len(concepts)),
    )


@dataclass(frozen=True)
class _Cell:
    """One concept of a run, and what its search, its texts and its trial are made of."""

    spec: Spec
    model: Model
    concept: Concept

    @property
    def directions(self) -> int:
        """How many directions the grid has: methods times layers, trained methods at the layers that they train.

        The vectors of a joint method are one direction, and so is each name of the library.
        """
        methods = [method_name(name) for name in self.spec.vectors.methods]
        joint = sum(map(is_joint, methods))
        alone = sum(map(is_trained, methods)) - joint
        layers, at = len(grid_layers(self.spec, self.model)), self.spec.vectors.train_layers
        trained = joint + alone * (TRAINED_LAYERS if at == "auto" else len(set(at)))
        return layers * (len(methods) - joint - alone) + trained + len(self.spec.vectors.library)

    @property
    def grid(self) -> int:
        """Candidates: every direction at every strength, and the spec's expressions."""
        return self.directions * self._strengths + len(self.spec.generations.expressions)

    @property
    def kept(self) -> int:
        """How many candidates are measured whole: the shortlist, or the whole grid where the spec says so."""
        wanted = self.spec.generations.shortlist
        return self.grid if wanted == "all" else min(wanted, self.grid)

    @property
    def _strengths(self) -> int:
        grid = self.spec.generations
        return len(grid.doses or (() if grid.alphas else AUTO_DOSES)) + len(grid.alphas or ())

    @property
    def _controls(self) -> int:
        """Chance controls of one candidate: as many random directions as shuffled labels."""
        return 2 * self.spec.vectors.controls

    def texts(self) -> int:
        """Tokens of the texts that are drawn: prompts, texts, and the answers on which damage is measured."""
        grid, drawn, longest = self.spec.generations, 0, self.spec.generations.max_tokens
        for split, cells in self._shown():
            for prompt in asked(self.concept, split, grid.prompts):
                drawn += len(open_prompt(self.model, self.concept, prompt).tokens) + cells * longest
        if "damage" in self.spec.scores.metrics:
            for split in ("validation", "test"):
                texts = answered(split, self.spec.scores)
                drawn += sum(len(open_prompt(self.model, self.concept, text).tokens) + longest for text in texts)
        return drawn

    def _shown(self) -> list[tuple[Split, int]]:
        """Texts a prompt, by split: `samples` of the unsteered model and each candidate; on test two of controls."""
        samples = self.spec.generations.samples
        return [("validation", samples * (1 + self.kept)), ("test", samples * 2 + 2)]

    def scores(self) -> int:
        """Tokens that measuring takes: items and answers in search, trial and chance, and the texts."""
        validation, test = (held_out(self.concept, split, self.spec.scores) for split in ("validation", "test"))
        few = min(SCREEN_ITEMS, len(validation)) / max(len(validation), 1)
        tokens = self._items(validation, self._searched(few)) + self._items(test, self._tried())
        tokens += BACKWARD * self._items(validation, 1)  # first-order effects of the permuted labels
        neutral = self.spec.scores.neutral
        if "damage" in self.spec.scores.metrics:
            tokens += self._damaged() * self.spec.generations.max_tokens
            neutral = max(neutral, self.spec.scores.answers)
        tokens += 2 * neutral * self._neutral_prompt  # of validation and of test
        for split, cells in self._shown():
            for text in asked(self.concept, split, self.spec.generations.prompts):
                read = len(open_prompt(self.model, self.concept, text).tokens) + self.spec.generations.max_tokens
                tokens += READ_AGAIN * cells * read
        return round(tokens)

    @cached_property
    def _neutral_prompt(self) -> float:
        """Tokens of a neutral prompt, on average."""
        texts = answered("validation", self.spec.scores)
        return fmean(len(open_prompt(self.model, self.concept, text).tokens) for text in texts)

    def _items(self, items: Sequence[Item], cells: float) -> float:
        """Tokens of measuring `cells` cells on items: a prompt is read once, its answers once, and once a cell."""
        total = 0.0
        for item in items:
            for version in counterbalanced(item):
                sides = item_prompts(self.model, self.concept, version)
                start = sides[0].response_start
                total += start + (1 + cells) * sum(len(side.tokens) - start for side in sides)
        return total

    def _searched(self, few: float) -> float:
        """Cells under which a validation item is measured in the search, on average.

        `few` is the share of the items that the first round measures.
        """
        if self.spec.generations.shortlist == "all":
            return 1 + 2 * self.grid + self.grid * self._controls + 2
        best = max(self.kept, math.ceil(self.directions / KEPT))
        screened = 1 + 2 * (self.directions + COMBINED) + best * self._strengths
        return few * screened + 2 * few * 2 * best + 2 * self.kept + self.kept * self._controls + 2

    def _tried(self) -> float:
        """Cells under which a test item is measured: the trial's, and for each draw two best ones and their mirrors."""
        return 5 + self._controls + 4 * self.spec.scores.draws

    def _damaged(self) -> float:
        """Answers that are read to measure damage, in search, trial and chance."""
        answers, draws = self.spec.scores.answers, self.spec.scores.draws
        layers = len(grid_layers(self.spec, self.model))
        screened = FEW_ROUNDS * (self.directions + COMBINED) * FEW_ANSWERS
        rivals = (self.kept + 1) * (1 + self._controls) * FEW_ANSWERS
        chance = (ROUNDS * layers + 2 * draws) * DAMAGE_ANSWERS if draws else 0
        return screened + ROUNDS * self.kept * answers + rivals + chance + 3 * answers

    def pair_tokens(self) -> int:
        """Tokens of the contrast's texts in train, both sides."""
        texts = [text for side in SIDES for text in self.concept.texts_in("train", side)]
        return sum(len(sided_prompt(self.model, self.concept, text).tokens) for text in texts)
