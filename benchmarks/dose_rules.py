"""Three rules of dosing on fresh texts: how often each exceeds the damage bound, and how well it predicts the damage.

python -m benchmarks.dose_rules                     # 30 candidates of the shipped concepts on the embedded model
python -m benchmarks.dose_rules --texts 16          # fewer fresh texts a candidate
python -m benchmarks.dose_rules --tiny              # once, small, on a tiny random model

*By texts*, as in 0.1: from a dose of 0.625 on, the first of four halvings whose eight sampled texts are at most 1.5
times as perplexing. *By damage* alone: the dose whose damage on neutral answers predicts, by the usual slope, the share
of that bound that `evaluation.bounds` doses to; at most 0.625. *By both*, as recommendations are dosed: sixteen texts
sampled at the dose by damage fit the candidate's own slope, and the dose is lowered where that slope predicts more than
is tolerated. Truth is the perplexity ratio of fresh texts, whose seeds no rule saw.
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
from steering_core.evaluation.bounds import TOLERATED, USUAL_SLOPE, Bounds
from steering_core.evaluation.damage import slopes
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention
from steering_core.models import Model, open_model
from steering_core.prompts import pair_prompt, prompt
from steering_core.spec_files import load_spec
from tests.tiny import save_tiny_model

CONCEPTS = load_spec("shipped-concepts").concepts
BOUND = Bounds(perplexity_ratio=1.5, kl=1.0)
HALVINGS = tuple(0.625 / 2**i for i in range(4))
PAIRS, TEMPERATURE = 16, 0.7  # pairs a direction
SEEN, FITTED = range(8), range(16)  # seeds of the texts that the rule of texts looks at, and that fit a slope


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

    def each(self, wanted: Mapping[int, tuple[Concept, Intervention]], seeds: range) -> dict[int, dict[int, float]]:
        """For each key the mean log perplexity of the text of each seed, in nats per token; prompts are taken in turn.

        An empty text has none.
        """
        requests, places = [], []
        for key, (concept, intervention) in wanted.items():
            for seed in seeds:
                asked = concept.prompts[seed % len(concept.prompts)]
                tokens = prompt(self._model, asked, chat=concept.chat).tokens
                requests.append(Request(tokens, intervention, seed=seed))
                places.append((key, seed))
        drawn = [
            (i, one) for i, one in sample(self._model, requests, self._max_tokens, TEMPERATURE, Work()) if one.tokens
        ]
        texts = [GivenAnswer((*requests[i].tokens, *one.tokens), len(requests[i].tokens)) for i, one in drawn]
        given = GivenAnswers(self._model, texts, [0], Work())
        nothing = np.zeros((len(texts), self._model.identity.width), np.float32)
        written: dict[int, dict[int, float]] = {key: {} for key in wanted}
        for (i, _), value in zip(drawn, given.log_probabilities(range(len(texts)), {0: nothing}), strict=True):
            key, seed = places[i]
            written[key][seed] = -float(value)
        return written

    def log_perplexities(self, wanted: Mapping[int, tuple[Concept, Intervention]], seeds: range) -> dict[int, float]:
        """For each key the mean over a text a seed, in nats per token; nan where all are empty."""
        found = self.each(wanted, seeds)
        return {key: statistics.fmean(of.values()) if of else math.nan for key, of in found.items()}


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


def neutral_answers_of(
    model: Model, candidates: Sequence[Candidate], answers: Sequence[GivenAnswer]
) -> dict[int, NeutralAnswers]:
    """For each layer the answers on which damage is measured."""
    given = GivenAnswers(model, answers, sorted({one.layer for one in candidates}), Work())
    return {one.layer: NeutralAnswers(given, one.layer, model.identity.width) for one in candidates}


def by_damage(neutral: Mapping[int, NeutralAnswers], candidates: Sequence[Candidate]) -> list[Chosen]:
    """The dose of the wanted damage, and what that damage usually makes of a perplexity."""
    wanted = BOUND.wanted_damage()
    doses = [min(neutral[one.layer].dose_of(one.unit, wanted), HALVINGS[0]) for one in candidates]
    return [
        Chosen(dose, USUAL_SLOPE * neutral[one.layer].gap(dose * one.unit))
        for one, dose in zip(candidates, doses, strict=True)
    ]


def by_both(
    neutral: Mapping[int, NeutralAnswers], texts: Texts, candidates: Sequence[Candidate], started: Sequence[Chosen]
) -> list[Chosen]:
    """The doses by damage, lowered where the slope that a candidate's texts fit foretells more than is tolerated.

    The rule is that of `evaluation.choice.rated`, on this script's power law in place of a curve. Slopes are fitted
    over the candidates of one concept, as over its shortlist.
    """
    found: dict[int, Chosen] = {}
    for name in dict.fromkeys(one.concept.name for one in candidates):
        mine = [i for i, one in enumerate(candidates) if one.concept.name == name]
        steered = {i: (candidates[i].concept, candidates[i].at(started[i].dose)) for i in mine}
        written = texts.each({**steered, -1: (candidates[mine[0]].concept, Intervention())}, FITTED)
        plain = written.pop(-1)
        damages = {i: neutral[candidates[i].layer].gap(started[i].dose * candidates[i].unit) for i in mine}
        ratios = {i: np.array([value - plain[s] for s, value in written[i].items() if s in plain]) for i in mine}
        for i, slope in zip(mine, slopes([(damages[i], ratios[i]) for i in mine]), strict=True):
            dose, at, unit = started[i].dose, neutral[candidates[i].layer], candidates[i].unit
            if BOUND.share(slope.value * damages[i]) > TOLERATED:
                dose = min(dose, at.dose_of(unit, BOUND.wanted_damage(slope.value)))
            found[i] = Chosen(dose, slope.value * at.gap(dose * unit))
    return [found[i] for i in range(len(candidates))]


def compare(model: Model, concepts: Sequence[Concept], layers: Sequence[int], n_texts: int, max_tokens: int) -> None:
    """Print what each rule chooses for every candidate, what fresh texts say, and how often it errs."""
    candidates = [one for concept in concepts for one in candidates_of(model, concept, layers)]
    texts, fresh = Texts(model, max_tokens), range(1000, 1000 + n_texts)
    unsteered = {i: (concept, Intervention()) for i, concept in enumerate(concepts)}
    plain, seen = (
        {concepts[i].name: value for i, value in texts.log_perplexities(unsteered, seeds).items()}
        for seeds in (fresh, SEEN)
    )
    neutral = neutral_answers_of(model, candidates, own_answers(model, 12, max_tokens))
    damage = by_damage(neutral, candidates)
    rules = {
        "by texts": by_texts(texts, candidates, seen, SEEN),
        "by damage": damage,
        "by both": by_both(neutral, texts, candidates, damage),
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
