"""Doses by two rules, held against fresh texts: how often either does more damage than it may, and how well foreseen.

python -m benchmarks.dose_rules                     # 30 candidates of the shipped concepts on the embedded model
python -m benchmarks.dose_rules --texts 16          # fewer fresh texts a candidate
python -m benchmarks.dose_rules --tiny              # once, small, on a tiny random model

*By texts*, as in 0.1: from a dose of 0.625 on, the first of four halvings whose eight sampled texts are at most 1.5
times as perplexing. *By damage* alone: the dose at which the damage on neutral answers foresees the share of that
bound that `evaluation.bounds` doses to, by the usual slope, at most 0.625. A recommendation starts there, and its
sampled texts then fit its own slope and may lower the dose; that step is not taken here. Truth is the perplexity ratio
of fresh texts, whose seeds neither rule saw.
"""

import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.telling import options, say
from benchmarks.training import NeutralAnswers, own_answers
from steering_core.activations.in_memory import activations_of
from steering_core.concepts import SIDES, Concept, Pair, load_concept
from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.engine.sampling import Request, sample
from steering_core.evaluation.bounds import USUAL_SLOPE, Bounds
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention
from steering_core.models import Model, open_model
from steering_core.prompts import pair_prompt, prompt
from steering_core.spec import load_spec
from tests.tiny import save_tiny_model

CONCEPTS = load_spec("shipped-concepts").concepts
BOUND = Bounds(perplexity_ratio=1.5, kl=1.0)
HALVINGS = tuple(0.625 / 2**i for i in range(4))
PAIRS, SEEN, TEMPERATURE = 16, 8, 0.7  # pairs a direction, texts that the rule of texts looks at


@dataclass(frozen=True)
class Candidate:
    """A direction (D,) of one concept at one layer, as long as that layer's mean residual norm."""

    concept: Concept
    layer: int
    unit: np.ndarray

    def at(self, dose: float) -> Intervention:
        """The direction at a dose."""
        return Intervention((Change(self.layer, (dose * self.unit).astype(np.float32)),))


def candidates_of(model: Model, concept: Concept, layers: Sequence[int]) -> Iterator[Candidate]:
    """The mean difference of the first training pairs at each layer."""
    pairs = [pair for pair in concept.pairs if concept.splits[pair.pair_id] == "train"][:PAIRS]
    read = [pair_prompt(model, concept, pair, side) for side in SIDES for pair in pairs]
    values, norms = activations_of(model, read, list(layers), "response")  # (2 N, L, D), (2 N, L)
    positive, negative = np.split(values.astype(np.float64), 2)
    for place, layer in enumerate(layers):
        found = positive[:, place].mean(axis=0) - negative[:, place].mean(axis=0)
        yield Candidate(concept, layer, found * (float(norms[:, place].mean()) / np.linalg.norm(found)))


class Texts:
    """Mean log perplexities of texts that a model writes to concepts' prompts, as it reads them itself."""

    def __init__(self, model: Model, max_tokens: int) -> None:
        self._model, self._max_tokens = model, max_tokens

    def log_perplexities(self, wanted: Mapping[int, tuple[Concept, Intervention]], seeds: range) -> dict[int, float]:
        """For each key the mean over a text a seed, in nats per token; prompts are taken in turn."""
        requests, keys = [], []
        for key, (concept, intervention) in wanted.items():
            for seed in seeds:
                asked = concept.prompts[seed % len(concept.prompts)]
                tokens = prompt(self._model, asked, chat=concept.chat).tokens
                requests.append(Request(tokens, intervention, seed=seed))
                keys.append(key)
        written: dict[int, list[float]] = {key: [] for key in wanted}
        drawn = [
            (i, one) for i, one in sample(self._model, requests, self._max_tokens, TEMPERATURE, Work()) if one.tokens
        ]
        texts = [GivenAnswer((*requests[i].tokens, *one.tokens), len(requests[i].tokens)) for i, one in drawn]
        given = GivenAnswers(self._model, texts, [0], Work())
        nothing = np.zeros((len(texts), self._model.identity.width), np.float32)
        for (i, _), value in zip(drawn, given.log_probabilities(range(len(texts)), {0: nothing}), strict=True):
            written[keys[i]].append(-float(value))
        return {key: statistics.fmean(values) if values else math.nan for key, values in written.items()}


@dataclass(frozen=True)
class Chosen:
    """What one rule chose for a candidate: a dose, and the log perplexity ratio that it foresaw there."""

    dose: float
    foreseen: float


def by_texts(texts: Texts, candidates: Sequence[Candidate], plain: Mapping[str, float], seeds: range) -> list[Chosen]:
    """The first of the halvings whose texts stay within the bound; the last one where none does."""
    found: dict[int, Chosen] = {}
    for dose in HALVINGS:
        open_ones = {i: (one.concept, one.at(dose)) for i, one in enumerate(candidates) if i not in found}
        seen = texts.log_perplexities(open_ones, seeds) if open_ones else {}
        for i, value in seen.items():
            ratio = value - plain[candidates[i].concept.name]
            if ratio <= math.log(BOUND.perplexity_ratio) or dose == HALVINGS[-1]:
                found[i] = Chosen(dose, ratio)
    return [found[i] for i in range(len(candidates))]


def by_damage(model: Model, candidates: Sequence[Candidate], answers: Sequence[GivenAnswer]) -> list[Chosen]:
    """The dose of the wanted damage, and what that damage usually makes of a perplexity."""
    given = GivenAnswers(model, answers, sorted({one.layer for one in candidates}), Work())
    neutral = {one.layer: NeutralAnswers(given, one.layer, model.identity.width) for one in candidates}
    wanted = BOUND.wanted_damage()
    doses = [min(neutral[one.layer].dose_of(one.unit, wanted), HALVINGS[0]) for one in candidates]
    return [
        Chosen(dose, USUAL_SLOPE * neutral[one.layer].gap(dose * one.unit))
        for one, dose in zip(candidates, doses, strict=True)
    ]


def compare(model: Model, concepts: Sequence[Concept], layers: Sequence[int], n_texts: int, max_tokens: int) -> None:
    """Print what either rule chooses for every candidate, what fresh texts say, and how often either errs."""
    candidates = [one for concept in concepts for one in candidates_of(model, concept, layers)]
    texts, fresh = Texts(model, max_tokens), range(1000, 1000 + n_texts)
    unsteered = {i: (concept, Intervention()) for i, concept in enumerate(concepts)}
    plain, seen = (
        {concepts[i].name: value for i, value in texts.log_perplexities(unsteered, seeds).items()}
        for seeds in (fresh, range(SEEN))
    )
    rules = {
        "by texts": by_texts(texts, candidates, seen, range(SEEN)),
        "by damage": by_damage(model, candidates, own_answers(model, 12, max_tokens)),
    }
    for name, chosen in rules.items():
        steered = {i: (one.concept, one.at(chosen[i].dose)) for i, one in enumerate(candidates)}
        true = texts.log_perplexities(steered, fresh)
        ratios = [true[i] - plain[one.concept.name] for i, one in enumerate(candidates)]
        for one, what, ratio in zip(candidates, chosen, ratios, strict=True):
            said = f"dose {what.dose:.3f}  foreseen {math.exp(what.foreseen):.2f}  fresh texts {math.exp(ratio):.2f}"
            say(f"  {name:9}  {one.concept.name:18} layer {one.layer:2}  {said}")
        say(_summary(name, chosen, ratios, n_texts))


def _summary(name: str, chosen: Sequence[Chosen], ratios: Sequence[float], n_texts: int) -> str:
    """One line about a rule: how often it errs, how well it foresees, and how strong it doses."""
    allowed = math.log(BOUND.perplexity_ratio)
    kept = [(what, ratio) for what, ratio in zip(chosen, ratios, strict=True) if math.isfinite(ratio)]
    beyond = sum(ratio > allowed for _, ratio in kept)
    far = sum(ratio > 2 * allowed for _, ratio in kept)
    error = math.sqrt(statistics.fmean((what.foreseen - ratio) ** 2 for what, ratio in kept)) if kept else math.nan
    doses, bound = statistics.fmean(what.dose for what in chosen), BOUND.perplexity_ratio
    return (
        f"{name}: {beyond} of {len(kept)} beyond a ratio of {bound:g} on {n_texts} fresh texts, {far} beyond "
        f"{bound**2:.2f}; error of what was foreseen {error:.2f} in log ratio; mean dose {doses:.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = options(__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--concepts", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--layers", nargs="+", type=int, default=[12, 18])
    parser.add_argument("--texts", type=int, default=32, help="fresh texts a candidate")
    parser.add_argument("--max-tokens", type=int, default=24)
    given = parser.parse_args(arguments)
    if given.tiny:
        tiny()
        return 0
    with open_model(given.model) as model:
        concepts = [load_concept(name) for name in given.concepts]
        compare(model, concepts, given.layers, given.texts, given.max_tokens)
    return 0


def tiny() -> None:
    """Two candidates on a tiny random model."""
    pairs = tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD!", negative=f"{i} quiet.") for i in range(10))
    concept = Concept(name="loud", chat=True, pairs=pairs, prompts=("Say something.", "Say more."))
    with tempfile.TemporaryDirectory() as folder, open_model(str(save_tiny_model(Path(folder) / "tiny"))) as model:
        compare(model, [concept], (1, 2), 2, 3)


if __name__ == "__main__":
    sys.exit(main())
