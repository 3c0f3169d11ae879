"""What a baked model does, beside what the runtime does: effect on the concept's items, damage, perplexity.

The untouched model is asked first and closed, then the baked one, and then the untouched one reads what either wrote:
two models are never in memory together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.candidates.answers import NeutralAnswer, neutral_answers
from steering_core.candidates.cell import Cell
from steering_core.candidates.generations import asked
from steering_core.concepts import Concept
from steering_core.concepts.stored import stored_concept
from steering_core.engine.sampling import Request, sample
from steering_core.engine.teacher_forcing import log_softmax, mean_under, probabilities
from steering_core.foundation.counting import Work
from steering_core.foundation.keys import seed_from
from steering_core.models import Model
from steering_core.pipeline.wanted import answered, held_out, neutral
from steering_core.prompts import Prompt, open_prompt
from steering_core.scores.metrics import Setup, damage, kl, perplexity, propensity
from steering_core.scores.scorers import ScoredText
from steering_core.spec import GenerationsSpec, ScoresSpec
from steering_core.statistics.intervals import mean_interval
from steering_core.store import Store
from steering_core.vectors.vector import Vector

_WANTED, _DRAWN = ScoresSpec(answers=12), GenerationsSpec()
_FOUND = """
WITH chosen AS (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs)
SELECT
    r.intervention, r.phase, r.verdict, r.effect, r.effect_low, r.effect_high, r.damage, r.kl, r.perplexity_ratio, r.n
FROM raw.recommendations r LEFT JOIN chosen USING (recommendation_id)
WHERE r.concept_id = ? AND r.model_id = ? AND list_has_all(?, r.vector_ids) AND len(r.vector_ids) > 0
ORDER BY started_at DESC NULLS LAST LIMIT 1
"""


@dataclass(frozen=True)
class FormTexts:
    """What a form does: the propensity of each test item in nats per token, and a text for each prompt and seed.

    `kl` and `damage` are means in nats against the untouched model.
    """

    propensities: np.ndarray
    texts: list[ScoredText]
    kl: float = 0.0
    damage: float = 0.0


@dataclass(frozen=True)
class FormMeasurement:
    """What a form does against the untouched model: effect in nats per token with its interval over `n` items.

    `damage` (nats per token) is along the untouched model's own answers to neutral prompts, `kl` (nats) is
    KL(untouched || form) after neutral prompts, and `perplexity_ratio` that of texts that answer the concept's open
    prompts; None where it has none.
    """

    concept: str
    effect: float
    effect_low: float
    effect_high: float
    damage: float
    kl: float
    perplexity_ratio: float | None
    n: int


def concept_of(store: Store, vectors: Sequence[Vector]) -> Concept | None:
    """The concept with held-out items that the first of `vectors` came from, as the store has it."""
    for vector in vectors:
        if vector.concept_id is not None:
            concept = stored_concept(store, vector.concept_id)
            if concept and concept.items_in("test"):
                return concept
    return None


def as_found(store: Store, concept: Concept, model_id: str, vectors: Sequence[Vector]) -> dict[str, Any] | None:
    """What the latest run recommended of these vectors for the concept, with what it measured; None for none."""
    rows = store.rows(_FOUND, [concept.concept_id, model_id, [vector.vector_id for vector in vectors]])
    return rows[0] if rows else None


@dataclass
class Measuring:
    """Measures the runtime under `cell` (the expression that is baked) and the baked model in the same way."""

    concept: Concept
    cell: Cell
    before: FormTexts
    runtime: FormTexts
    prompts: list[Prompt]
    answers: list[NeutralAnswer]
    next_token_logs: np.ndarray  # (N, V) log-probabilities of the untouched model after neutral prompts
    surprisals: list[np.ndarray]  # (T, V) each, -log p along its answers
    usual: list[float]  # the mean surprisal of its own next tokens along each of them
    work: Work = field(default_factory=Work)

    @classmethod
    def of(cls, model: Model, store: Store, concept: Concept, cell: Cell) -> "Measuring":
        """What the untouched `model` and its runtime make of the concept's test items, prompts and neutral texts."""
        setup, untouched = Setup(model, concept), Cell(cell.model_id, cell.concept_id)
        items = held_out(concept, "test", _WANTED)
        both = np.array([propensity(setup, item, [untouched, cell]) for item in items])  # (items, 2)
        texts = neutral("test", _WANTED)
        answers = neutral_answers(model, store, concept, answered("test", _WANTED), _DRAWN, setup.work)
        prompts = [open_prompt(model, concept, text) for text in asked(concept, "test", _DRAWN.prompts)]
        wrote = [_texts(model, prompts, one) for one in (untouched, cell)]
        moved = [kl(setup, text, [cell])[0] for text in texts], [damage(setup, answer, [cell])[0] for answer in answers]
        own = [_surprisal(model, answer) for answer in answers]
        return cls(
            concept,
            cell,
            FormTexts(both[:, 0], wrote[0]),
            FormTexts(both[:, 1], wrote[1], *(float(np.mean(values)) for values in moved)),
            prompts,
            answers,
            _next_token_logs(model, concept, texts),
            [surprisal for surprisal, _ in own],
            [usual for _, usual in own],
        )

    def seen(self, baked: Model) -> FormTexts:
        """What a baked model makes of the same items, prompts and neutral texts."""
        setup, as_it_is = Setup(baked, self.concept), Cell(self.cell.model_id, self.cell.concept_id)
        items = held_out(self.concept, "test", _WANTED)
        values = np.array([propensity(setup, item, [as_it_is])[0] for item in items])
        after = _next_token_logs(baked, self.concept, neutral("test", _WANTED))
        kls = (np.exp(self.next_token_logs) * (self.next_token_logs - after)).sum(axis=-1, dtype=np.float64)
        along = zip(self.answers, self.surprisals, self.usual, strict=True)
        damages = [
            float(mean_under(_along(baked, answer), surprisal, answer.temperature).mean()) - usual
            for answer, surprisal, usual in along
        ]
        texts = _texts(baked, self.prompts, as_it_is)
        return FormTexts(values, texts, float(kls.mean()), float(np.mean(damages)))

    def measured(self, untouched: Model, seen: FormTexts) -> FormMeasurement:
        """The effect and damage of what a form did; the untouched model reads the texts."""
        moved = seen.propensities - self.before.propensities
        finite = moved[np.isfinite(moved)]
        effect, low, high = mean_interval(finite)
        ratio = self._ratio(untouched, seen.texts)
        return FormMeasurement(self.concept.name, effect, low, high, seen.damage, seen.kl, ratio, len(finite))

    def _ratio(self, untouched: Model, texts: Sequence[ScoredText]) -> float | None:
        """Geometric mean of the perplexity ratios of texts and of the untouched model's own, prompt by prompt."""
        if not texts:
            return None
        setup = Setup(untouched, self.concept)
        logs = np.log([perplexity(setup, some) for some in (texts, self.before.texts)])  # (2, texts)
        return float(np.exp((logs[0] - logs[1])[np.isfinite(logs).all(axis=0)].mean()))


def _texts(model: Model, prompts: Sequence[Prompt], cell: Cell) -> list[ScoredText]:
    """A text for every prompt and seed, in this order."""
    wanted = [(prompt, seed) for prompt in prompts for seed in _DRAWN.seeds]
    requests = [Request(p.tokens, cell.intervention, seed_from(seed, p.text)) for p, seed in wanted]
    drawn = dict(sample(model, requests, _DRAWN.max_tokens, _DRAWN.temperature, Work()))
    return [ScoredText(p, tuple(drawn[i].tokens), drawn[i].text, drawn[i].finish) for i, (p, _) in enumerate(wanted)]


def _next_token_logs(model: Model, concept: Concept, texts: Sequence[str]) -> np.ndarray:
    """Log-probabilities (N, V) of the next token after each neutral text."""
    rows = []
    for text in texts:
        tokens = open_prompt(model, concept, text).tokens
        rows.append(log_softmax(model.network(mx.array([tokens]), cache=model.new_cache())[:, -1])[0])
    return np.array(rows)


def _along(model: Model, answer: NeutralAnswer) -> mx.array:
    """Logits (T, V) at each token of an answer."""
    tokens = (*answer.prompt, *answer.tokens[:-1])
    return model.network(mx.array([tokens]), cache=model.new_cache())[0, len(answer.prompt) - 1 :]


def _surprisal(model: Model, answer: NeutralAnswer) -> tuple[np.ndarray, float]:
    """-log p along an answer, (T, V) in a file that nobody else sees, and its mean under the model's own next tokens.

    A dozen answers are half a gigabyte where a vocabulary has 262,144 tokens.
    """
    logits = _along(model, answer)
    surprisal = -log_softmax(logits)
    own = (probabilities(logits, answer.temperature) * surprisal).sum(axis=-1, dtype=np.float64)
    with TemporaryFile() as file:
        kept = np.memmap(file, np.float32, "w+", shape=surprisal.shape)
    kept[:] = surprisal
    return kept, float(own.mean())
