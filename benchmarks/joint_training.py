"""What vectors at one layer and at several do at equal damage, found one by one and trained together.

    python -m benchmarks.joint_training refusal politeness     # at layers 9, 12, 15, 18 and 21 of the embedded model
    python -m benchmarks.joint_training refusal --layers 12 15 18
    python -m benchmarks.joint_training --tiny                 # once, small, on a tiny random model

Every line is one set of vectors at the strength where its damage is `--gap`, the cross-entropy gap on the untouched
model's own answers to neutral prompts. It has the odd effect on validation and on test items, in nats a token: half of
(propensity under the vectors - propensity under their opposites). `shares` are each vector's dose / norm of all doses.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.telling import options, say, timed
from benchmarks.training import crossed, loud, own_answers, pairs_of, sides_of
from steering_core.activations.in_memory import activations_of
from steering_core.concepts import SIDES, Concept, Split, load_concept
from steering_core.engine.gradients import GivenAnswer, GivenAnswers
from steering_core.foundation.counting import Work
from steering_core.models import Model, open_model
from steering_core.prompts import pair_prompt
from steering_core.vectors.training.at_layer import Training, training_at
from steering_core.vectors.training.fits import trained_directions
from steering_core.vectors.training.pair_passes import PairPasses
from tests.tiny import save_tiny_model

LAYERS = (9, 12, 15, 18, 21)
HALVINGS = 7
Vectors = Mapping[int, np.ndarray]


class Measures:
    """A concept's held-out items and the neutral answers, read once for vectors that begin at any of the layers."""

    def __init__(self, model: Model, concept: Concept, layers: Sequence[int], answers: Sequence[GivenAnswer]) -> None:
        self.items = {split: self._items(model, concept, layers, split) for split in ("validation", "test")}
        self._neutral = GivenAnswers(model, answers, layers, Work())
        self._base = self._neutral.distributions(
            {layers[0]: np.zeros((len(answers), model.identity.width), np.float32)}
        )
        self._entropy = crossed(self._base, self._base)

    @staticmethod
    def _items(model: Model, concept: Concept, layers: Sequence[int], split: Split) -> GivenAnswers:
        asked = [item for item in concept.items if concept.item_splits[item.item_id] == split]
        return GivenAnswers(model, [side for item in asked for side in sides_of(model, concept, item)], layers, Work())

    def damage(self, vectors: Vectors, times: float) -> float:
        """The cross-entropy gap under `times` times the vectors, in nats a token."""
        rows = np.ones((len(self._neutral), 1), np.float32)
        added = {layer: (times * rows * vector).astype(np.float32) for layer, vector in vectors.items()}
        return crossed(self._neutral.distributions(added), self._base) - self._entropy

    def times_at(self, vectors: Vectors, gap: float) -> float:
        """The multiple of the vectors whose damage is `gap`, by bisection."""
        low, high = 0.0, 1.0
        while self.damage(vectors, high) < gap and high < 64:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.damage(vectors, middle) < gap else (low, middle)
        return low

    def effect(self, split: str, vectors: Vectors, times: float) -> np.ndarray:
        """Odd effects (n,): half of (propensity under `times` times the vectors - propensity under their opposites)."""
        items = self.items[split]
        signs = np.repeat([times, -times], len(items))[:, None]
        added = {layer: (signs * vector).astype(np.float32) for layer, vector in vectors.items()}
        found = items.log_probabilities([*range(len(items))] * 2, added).reshape(2, -1, 2)
        plus, minus = found[..., 0] - found[..., 1]
        return np.asarray((plus - minus) / 2)


def measure(model: Model, concept: Concept, layers: Sequence[int], gap: float, answers: Sequence[GivenAnswer]) -> None:
    """Print what every set of vectors does on one concept."""
    measures, trainings = Measures(model, concept, layers, answers), trainings_of(model, concept, layers)

    def tell(name: str, found: Sequence[tuple[Training, np.ndarray]], seconds: float = 0.0) -> None:
        vectors = {training.layer: vector for training, vector in found}
        times = measures.times_at(vectors, gap)
        doses = np.array([np.linalg.norm(vector) / training.residual_norm for training, vector in found])
        both = [measures.effect(split, vectors, times) for split in ("validation", "test")]
        error = both[1].std(ddof=1) / np.sqrt(len(both[1]))
        shares = " ".join(f"{share:.2f}" for share in doses / np.linalg.norm(doses))
        say(
            f"  {concept.name:14} {name:34} validation {both[0].mean():+.3f}  test {both[1].mean():+.3f} ± "
            f"{1.96 * error:.3f}  shares {shares}  {seconds:.1f} s"
        )

    alone: dict[str, list[tuple[Training, np.ndarray]]] = {"mean_difference": [], "preference": []}
    for training in trainings:
        seconds, ((vector,), _) = timed(lambda one=training: trained_directions("preference", [one]))
        alone["mean_difference"].append((training, training.start))
        alone["preference"].append((training, vector))
        tell(f"mean_difference at {training.layer}", alone["mean_difference"][-1:])
        tell(f"preference at {training.layer}", alone["preference"][-1:], seconds)
    for name, found in alone.items():
        tell(f"{name}, equal shares", [(t, v * (t.residual_norm / np.linalg.norm(v))) for t, v in found])
    seconds, (together, _) = timed(lambda: trained_directions("joint_preference", trainings))
    tell("joint_preference", list(zip(trainings, together, strict=True)), seconds)


def trainings_of(model: Model, concept: Concept, layers: Sequence[int]) -> list[Training]:
    """The concept's pairs at each of the layers, from activations at their answers."""
    train, validation = (pairs_of(model, concept, split) for split in ("train", "validation"))
    pairs = [pair for pair in concept.pairs if concept.splits[pair.pair_id] == "train"]
    prompts = [pair_prompt(model, concept, pair, side) for side in SIDES for pair in pairs]
    values, norms = activations_of(model, prompts, list(layers), "response")  # (2N, L, D), (2N, L)
    passes = PairPasses(model, train, validation, layers)
    return [
        training_at(passes, layer, *np.split(values[:, at], 2), float(norms[:, at].mean()), 0)
        for at, layer in enumerate(layers)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the options ask for."""
    parser = options(__doc__)
    parser.add_argument("concepts", nargs="*", default=["refusal"])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS))
    parser.add_argument("--gap", type=float, default=0.3, help="the equal damage, in nats a token")
    given = parser.parse_args(arguments)
    if given.tiny:
        tiny()
        return
    with open_model(given.model) as model:
        answers = own_answers(model, 16, 24)
        for name in given.concepts:
            measure(model, load_concept(name), given.layers, given.gap, answers)


def tiny() -> None:
    """One concept at two layers of a tiny random model."""
    with tempfile.TemporaryDirectory() as folder, open_model(str(save_tiny_model(Path(folder) / "tiny"))) as model:
        measure(model, loud(), [1, 2], 0.05, own_answers(model, 2, 4))


if __name__ == "__main__":
    main()
