"""What training costs beside the plain way, and what trained vectors do at equal damage.

    python -m benchmarks.training                                   # seconds, on the embedded model
    python -m benchmarks.training --effects refusal politeness      # effects on test items at equal damage
    python -m benchmarks.training --effects refusal --texts 3       # and texts at that damage, first prompts first
    python -m benchmarks.training --tiny                            # both once, small, on a tiny random model

The plain way runs each of a pair's whole texts through the whole network by itself, as code does that has nothing but
`mx.value_and_grad`. Damage is the cross-entropy gap on the untouched model's own answers to neutral prompts: how much
less probable the steered model's tokens are to the untouched model than its own, in nats a token.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.telling import options, say
from steering_core.activations.in_memory import activations_of
from steering_core.backend.mlx import mx
from steering_core.concepts import SIDES, Concept, Item, Pair, Split, load_concept
from steering_core.concepts.neutral import neutral_prompts
from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention
from steering_core.models import Model, open_model
from steering_core.models.cpu import with_gradients
from steering_core.prompts import item_prompts, pair_prompt, prompt
from steering_core.vectors.controls import random_direction
from steering_core.vectors.methods import TRAINED, derived_direction
from steering_core.vectors.training.at_layer import Training, training_at
from steering_core.vectors.training.fits import trained_direction
from steering_core.vectors.training.pair_passes import PairPasses
from steering_core.vectors.training.pairs import AnswerPair, answer_pair
from tests.tiny import save_tiny_model

DOSES = (0.1, 0.25)
CHEAP = ("gradient", "natural_gradient")
PLAIN_PAIRS = 2  # timed by the plain way; the rest of the pairs would take as long each


@dataclass(frozen=True)
class LayerData:
    """A concept's pairs at one layer of a model: their activations there and the passes over their answers."""

    model: Model
    concept: Concept
    layer: int
    passes: PairPasses
    positive: np.ndarray  # (N, D)
    negative: np.ndarray
    residual_norm: float

    def training(self, seed: int, shuffled: int | None = None) -> Training:
        """The `Training` at the layer; `shuffled` is the seed of shuffled labels."""
        sides = self.positive, self.negative
        return training_at(self.passes, self.layer, *sides, self.residual_norm, seed, shuffled)


def layer_data(model: Model, concept: Concept, layer: int) -> LayerData:
    """The concept's training and validation pairs on that model, activations read at the answers."""
    train, validation = (pairs_of(model, concept, split) for split in ("train", "validation"))
    prompts = [
        pair_prompt(model, concept, pair, side)
        for side in SIDES
        for pair in concept.pairs
        if concept.splits[pair.pair_id] == "train"
    ]
    values, norms = activations_of(model, prompts, [layer], "response")
    positive, negative = np.split(values[:, 0], 2)
    return LayerData(
        model, concept, layer, PairPasses(model, train, validation, [layer]), positive, negative, float(norms.mean())
    )


def pairs_of(model: Model, concept: Concept, split: Split) -> list[AnswerPair]:
    """A split's pairs as answers."""
    pairs = [pair for pair in concept.pairs if concept.splits[pair.pair_id] == split]
    return [answer_pair(*(pair_prompt(model, concept, pair, side) for side in SIDES)) for pair in pairs]


# -- seconds ---------------------------------------------------------------------------------------------------------


def seconds(here: LayerData) -> None:
    """Print what reading, a pass over all pairs with gradients, and whole methods cost, beside the plain way."""
    rows = here.passes.rows
    n = len(rows) // 2
    tokens, own = sum(len(a.tokens) for a in rows), sum(a.length for a in rows)
    say(f"{here.model.name}, {n} pairs of {here.concept.name}, layer {here.layer}: {tokens} tokens, {own} of answers")
    answers = rows[: 2 * PLAIN_PAIRS]
    plain = _timed("the plain way, a pair", lambda: [_plain(here.model, a, here.layer) for a in answers], PLAIN_PAIRS)
    say(f"  so all pairs once: {plain * n:.1f} core-s")
    _timed("reading all answers", lambda: here.passes.answers)
    _timed("all pairs once, with gradients at 0", lambda: here.passes.unsteered)
    training = here.training(0)
    _timed("all pairs once, under a vector", lambda: training.preferences(training.start))
    for name in TRAINED:
        _timed(f"{name} (after the above)", partial(trained_direction, name, here.training(0)))


def _timed(what: str, function: Callable[[], object], of: int = 1) -> float:
    """Print the seconds and core-seconds that a call took, divided by `of`; the core-seconds."""
    wall, core = time.perf_counter(), time.process_time()
    function()
    wall, core = ((time.perf_counter() - wall) / of, (time.process_time() - core) / of)
    say(f"  {what}: {wall:.2f} s, {core:.2f} core-s")
    return core


def _plain(model: Model, answer: GivenAnswer, layer: int) -> np.ndarray:
    """The gradient of one answer's mean log-probability by an addition at 0, without anything shared, (D,)."""
    tokens = mx.array([answer.tokens])
    places = mx.arange(answer.start - 1, len(answer.tokens) - 1)

    def along(delta: mx.array) -> mx.array:
        def add(h: mx.array) -> mx.array:
            acts = mx.arange(h.shape[1])[:, None] >= answer.start - 1
            return h + mx.where(acts, delta, 0)

        with model.taps.applied({layer: add}):
            logits = model.network(tokens, cache=model.new_cache())[0]
        found = logits[places] - mx.logsumexp(logits[places], axis=-1, keepdims=True)
        return mx.take_along_axis(found, tokens[0, answer.start :][:, None], axis=-1).mean()

    with with_gradients():
        return np.array(mx.grad(along)(mx.zeros(model.identity.width)))


# -- effects ---------------------------------------------------------------------------------------------------------


def effects(each: Iterable[LayerData], gap: float, controls: int, answers: Sequence[GivenAnswer]) -> None:
    """Print each direction's effect on test items where its damage is `gap`, concept by concept.

    Controls that are trained for long, `preference` with shuffled labels, come last.
    """
    measured = []
    for here in each:
        measured.append(_HeldOut(here, answers))
        for name, direction in _directions(here, controls):
            measured[-1].say(name, direction, gap)
    for seed in range(1, controls + 1):
        for held_out in measured:
            found = trained_direction("preference", held_out.here.training(seed, seed))
            held_out.say(f"preference, shuffled {seed}", found, gap)


def texts(each: Iterable[LayerData], gap: float, answers: Sequence[GivenAnswer], n: int, max_tokens: int = 48) -> None:
    """Print what the model writes to a concept's first n prompts, untouched and under vectors whose damage is `gap`.

    As Markdown, whatever it says: one seed, temperature 0.7, in the concept's direction.
    """
    for here in each:
        model, held_out = here.model, _HeldOut(here, answers)
        found = {
            "mean difference": derived_direction("mean_difference", here.positive, here.negative),
            "`preference`": trained_direction("preference", here.training(0)),
        }
        steered = {"untouched": Intervention()}
        for name, direction in found.items():
            vector = direction * (held_out.dose_of(direction, gap) * here.residual_norm / np.linalg.norm(direction))
            steered[name] = Intervention((Change(here.layer, vector.astype(np.float32)),))
        say(f"\n**{here.concept.name}**\n\n| prompt | vector | text |\n| --- | --- | --- |")
        asked = here.concept.prompts[:n]
        requests = [
            Request(prompt(model, text, chat=here.concept.chat).tokens, intervention, seed=0)
            for text in asked
            for intervention in steered.values()
        ]
        written = {i: drawn.text for i, drawn in sample(model, requests, max_tokens, 0.7, Work())}
        for i, (text, name) in enumerate((text, name) for text in asked for name in steered):
            say(f"| {text if i % len(steered) == 0 else ''} | {name} | {' '.join(written[i].split())} |")


class _HeldOut:
    """One concept's test items, and the neutral answers on which damage is measured."""

    def __init__(self, here: LayerData, answers: Sequence[GivenAnswer]) -> None:
        self.here, (model, concept) = here, (here.model, here.concept)
        items = [item for item in concept.items if concept.item_splits[item.item_id] == "test"]
        sides = [a for item in items for a in sides_of(model, concept, item)]
        self._items = GivenAnswers(model, sides, [here.layer], Work())
        self._neutral = NeutralAnswers(
            GivenAnswers(model, answers, [here.layer], Work()), here.layer, model.identity.width
        )

    def dose_of(self, direction: np.ndarray, gap: float) -> float:
        """The dose at which a direction's damage is `gap`."""
        return self._neutral.dose_of(direction * (self.here.residual_norm / np.linalg.norm(direction)), gap)

    def say(self, name: str, direction: np.ndarray, gap: float) -> None:
        """Print a direction's dose at that damage, and its odd effect there."""
        dose = self.dose_of(direction, gap)
        moved = _effect(
            self._items, self.here, direction * (dose * self.here.residual_norm / np.linalg.norm(direction))
        )
        error = moved.std(ddof=1) / np.sqrt(len(moved))
        say(f"  {self.here.concept.name:14} {name:28} dose {dose:.3f}  effect {moved.mean():+.3f} ± {1.96 * error:.3f}")


def twin(each: Iterable[LayerData], of: Model, gap: float) -> None:
    """Print what vectors of one model do to a twin, such as its 4-bit form, at the dose that damages that by `gap`."""
    answers = own_answers(of, 12, 24)
    for here in each:
        held_out = _HeldOut(replace(here, model=of), answers)
        held_out.say(
            f"mean_difference on {of.name}", derived_direction("mean_difference", here.positive, here.negative), gap
        )
        for name in ("gradient", "preference"):
            held_out.say(f"{name} on {of.name}", trained_direction(name, here.training(0)), gap)


def _directions(here: LayerData, controls: int) -> Iterator[tuple[str, np.ndarray]]:
    """What the methods find, and beside each of the cheap ones what it finds with shuffled labels."""
    yield "mean_difference", derived_direction("mean_difference", here.positive, here.negative)
    for name in CHEAP:
        yield name, trained_direction(name, here.training(0))
    for seed in range(1, controls + 1):
        shuffled = here.training(seed, seed)
        yield f"random {seed}", random_direction(shuffled.start, seed)
        yield f"mean_difference, shuffled {seed}", shuffled.start
        for name in CHEAP:
            yield f"{name}, shuffled {seed}", trained_direction(name, here.training(seed, seed))
    training = here.training(0)
    yield "preference", trained_direction("preference", training)
    say(f"    {training.notes['steps']} steps, validation {training.notes['validation']}")


def sides_of(model: Model, concept: Concept, item: Item) -> list[GivenAnswer]:
    """Both answers of an item."""
    return [GivenAnswer(side.tokens, side.response_start) for side in item_prompts(model, concept, item)]


def _effect(items: GivenAnswers, here: LayerData, vector: np.ndarray) -> np.ndarray:
    """Half of the items' propensity under the vector minus that under its opposite, (n,) in nats."""
    rows = [*range(len(items))] * 2
    added = np.repeat([1.0, -1.0], len(items))[:, None] * vector
    found = items.log_probabilities(rows, {here.layer: added.astype(np.float32)}).reshape(2, -1, 2)
    propensity = found[..., 0] - found[..., 1]
    return np.asarray((propensity[0] - propensity[1]) / 2)


class NeutralAnswers:
    """The untouched model's own answers to neutral prompts, on which the damage of vectors at a layer is measured."""

    def __init__(self, answers: GivenAnswers, layer: int, width: int) -> None:
        self._answers, self._layer = answers, layer
        self._zero = np.zeros((len(answers), width), np.float32)
        self._base = answers.distributions({layer: self._zero})
        self._entropy = crossed(self._base, self._base)

    def dose_of(self, unit: np.ndarray, gap: float) -> float:
        """The multiple of a vector (D,) whose damage is `gap`, on the power law through the damages at `DOSES`."""
        gaps = [max(self.gap(dose * unit), 1e-6) for dose in DOSES]
        power = np.log(gaps[1] / gaps[0]) / np.log(DOSES[1] / DOSES[0])
        return float(DOSES[0] * (gap / gaps[0]) ** (1 / max(power, 0.5)))

    def gap(self, vector: np.ndarray) -> float:
        """Mean over tokens of the sum over the vocabulary of (p_v - p) (-log p), in nats."""
        steered = self._answers.distributions({self._layer: (self._zero + vector).astype(np.float32)})
        return crossed(steered, self._base) - self._entropy


def crossed(of: Sequence[np.ndarray], to: Sequence[np.ndarray]) -> float:
    """Mean cross-entropy of `of` relative to `to`, log-probabilities (T, V) an answer each, in nats a token."""
    return float(np.concatenate([-(np.exp(s) * b).sum(axis=1) for s, b in zip(of, to, strict=True)]).mean())


def own_answers(model: Model, n: int, max_tokens: int) -> list[GivenAnswer]:
    """The untouched model's own answers to n neutral prompts, at temperature 0.7."""
    chat = model.chat_template.exists
    requests = [Request(prompt(model, text, chat=chat).tokens, seed=i) for i, text in enumerate(neutral_prompts()[:n])]
    drawn = sample(model, requests, max_tokens, 0.7, Work())
    return [
        GivenAnswer((*requests[i].tokens, *found.tokens), len(requests[i].tokens)) for i, found in drawn if found.tokens
    ]


# -- what to run -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the options ask for."""
    parser = options(__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--concept", default="refusal", help="whose pairs are timed")
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--effects", nargs="+", default=[], metavar="CONCEPT", help="measure these instead")
    parser.add_argument("--gap", type=float, default=0.3, help="the equal damage, in nats a token")
    parser.add_argument("--texts", type=int, default=0, help="print texts under so many of the concepts' prompts")
    parser.add_argument("--twin", default=None, help="measure vectors of --model on this model")
    parser.add_argument("--controls", type=int, default=2, help="random and shuffled directions of each kind")
    given = parser.parse_args(arguments)
    if given.tiny:
        tiny()
        return
    with open_model(given.model) as model:
        if not given.effects:
            seconds(layer_data(model, load_concept(given.concept), given.layer))
        else:
            each = (layer_data(model, load_concept(name), given.layer) for name in given.effects)
            if given.twin:
                with open_model(given.twin) as other:
                    twin(each, other, given.gap)
            elif given.texts:
                texts(each, given.gap, own_answers(model, 12, 24), given.texts)
            else:
                effects(each, given.gap, given.controls, own_answers(model, 12, 24))


def loud() -> Concept:
    """A small concept for a round on a tiny model."""
    return Concept(
        name="loud",
        chat=True,
        prompts=("Say something.",),
        pairs=tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD!", negative=f"{i} quiet.") for i in range(10)),
        items=tuple(Item(prompt=f"Shout {i}?", matching="YES", not_matching="nope") for i in range(12)),
    )


def tiny() -> None:
    """Both parts once on a tiny random model."""
    concept = loud()
    with tempfile.TemporaryDirectory() as folder, open_model(str(save_tiny_model(Path(folder) / "tiny"))) as model:
        seconds(layer_data(model, concept, 2))
        here = layer_data(model, concept, 2)
        effects([here], 0.05, 1, own_answers(model, 2, 4))
        texts([here], 0.05, own_answers(model, 2, 4), 1, 4)
        twin([here], model, 0.05)


if __name__ == "__main__":
    main()
