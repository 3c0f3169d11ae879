"""Vectors that are trained: from a concept's stored pairs and an open model, each stored as soon as it is there.

What the store holds is not trained again; a process that dies while it trains leaves nothing of that vector behind.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from steering_core.concepts import Concept, Split
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import SteerflowError, StoreDamaged, VectorError
from steering_core.foundation.keys import content_key, seed_from
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from steering_core.prompts import Prompt
from steering_core.statistics.separation import d_prime
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, concept_sides, joined, read_contrasts
from steering_core.vectors.controls import SAME, random_direction
from steering_core.vectors.derive import Wanted, training_sides, vector_of, wanted_vectors
from steering_core.vectors.library import restore
from steering_core.vectors.methods import TRAINED, checked_direction, mean_difference
from steering_core.vectors.training import (
    AnswerSides,
    PairPasses,
    SplitAnswers,
    Training,
    answer_pair,
    lone_answer,
    training_at,
)
from steering_core.vectors.vector import vectors_by_id

TRAINING_VERSION = 1
TRAINED_ON: tuple[Split, Split] = ("train", "validation")


def train(
    store: Store,
    model: Model,
    concept: Concept,
    methods: Sequence[str],
    layers: Sequence[int],
    position: str,
    controls: int,
    progress: Progress = silent,
) -> Done:
    """Have the store hold every trained method's vector at every layer, each with so many controls of either kind.

    A `shuffled` control is trained as long as its vector, on pairs of which half exchanged their sides, or on texts of
    which as many changed sides. Activations at those layers are in the store. Raises VectorError where a method finds
    no direction, or needs pairs and has unpaired texts.
    """
    identity = model.identity
    sides = training_sides(store, identity, concept, methods)
    validation = concept_sides(store, identity, concept.concept_id, "validation")
    kind = () if sides.paired else ("unpaired",)
    pairs_key = content_key("trained on", TRAINING_VERSION, *kind, sides.rows, validation.rows)
    wanted = wanted_vectors(identity, concept, methods, layers, position, pairs_key, controls)
    missing = store.absent("vectors", [w.vector_id for w in wanted])
    todo = [w for w in wanted if w.vector_id in missing]
    done = Done([w.vector_id for w in wanted], Work(len(todo), len(wanted) - len(todo)))
    with done.work.timed():
        if todo:
            prompts = _prompts(store, {*sides.prompt_ids, *validation.prompt_ids})
            learnt, held_out = (_answered(prompts, some) for some in (sides, validation))
            passes = PairPasses(model, learnt, held_out, sorted({w.layer for w in todo}))
            _store_each(store, concept, passes, wanted, todo, sides, position, progress)
            done.work.forward_passes += passes.work.forward_passes
            done.work.tokens += passes.work.tokens
        restore(store, done.ids)
    return done


def _answered(prompts: Mapping[str, Prompt], sides: PromptSides) -> SplitAnswers:
    """The stored prompts of a split as answers."""
    positive, negative = ([prompts[i] for i in side] for side in (sides.positive, sides.negative))
    if sides.paired:
        return list(map(answer_pair, positive, negative))
    return AnswerSides(tuple(map(lone_answer, positive)), tuple(map(lone_answer, negative)))


def _store_each(
    store: Store,
    concept: Concept,
    passes: PairPasses,
    wanted: Sequence[Wanted],
    todo: Sequence[Wanted],
    sides: PromptSides,
    position: str,
    progress: Progress,
) -> None:
    """Train the vectors `todo` and store each at once; controls that are random need theirs of `wanted`."""
    identity, finished = passes.model.identity, 0
    for contrast in read_contrasts(store, identity, sides, passes.layers, position):
        for w in (w for w in todo if w.layer == contrast.layer):
            progress(finished, len(todo))
            if w.control is None or w.seed is None:
                direction, notes = _trained(concept, passes, contrast, w.method, None)
            else:
                (own,) = (o for o in wanted if (o.method, o.layer, o.control) == (w.method, w.layer, None))
                (like,) = (v.direction.astype(np.float64) for v in vectors_by_id(store, [own.vector_id]))
                direction, notes = random_direction(like, w.seed), None
                if w.control == "shuffled":
                    direction, notes = _shuffled(concept, passes, contrast, w.method, like, w.seed)
            vector = vector_of(identity, concept, contrast, position, w, direction, notes)
            store.append("vectors", [vector.row(sides.prompt_ids)])
            finished += 1
    progress(finished, len(todo))


def _shuffled(
    concept: Concept, passes: PairPasses, contrast: Contrast, method: str, like: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[str, object] | None]:
    """What the method finds in shuffled labels, at the length of `like`, and how.

    A random direction where they cancel and leave nothing to find, or it finds `like` itself.
    """
    try:
        found, notes = _trained(concept, passes, contrast, method, seed)
    except VectorError:  # of the labels: the method found a direction in the pairs as they are
        return random_direction(like, seed), None
    norms = np.linalg.norm(found) * np.linalg.norm(like)
    if abs(found @ like) > SAME * norms:
        return random_direction(like, seed), None
    return found * (np.linalg.norm(like) / np.linalg.norm(found)), notes


def _trained(
    concept: Concept, passes: PairPasses, contrast: Contrast, method: str, shuffled: int | None
) -> tuple[np.ndarray, dict[str, object]]:
    """A trained method's direction at one layer, and what it says about how; with a seed, of shuffled labels."""
    seed = seed_from("trained", concept.concept_id, method, contrast.layer, shuffled)
    sides = contrast.positive, contrast.negative
    training = training_at(passes, contrast.layer, *sides, contrast.residual_norm, seed, shuffled)
    try:
        return trained_direction(method, training), training.notes
    except SteerflowError as error:
        raise type(error)(f"{concept.name} at layer {contrast.layer}: {error}") from None


def trained_direction(method: str, training: Training) -> np.ndarray:
    """What the trained method finds, (D,) float64; notes of its seed and version are among the training's.

    Raises VectorError where it finds no direction.
    """
    found = TRAINED[method].function(training)
    training.notes.update(seed=training.seed, version=TRAINING_VERSION)
    return checked_direction(method, found, training.activations.shape[1], f"{training.n_pairs} pairs")


def _prompts(store: Store, prompt_ids: Collection[str]) -> dict[str, Prompt]:
    """The stored prompts of those ids. Raises StoreDamaged for one that is not there."""
    wanted = pa.table({"prompt_id": pa.array(sorted(prompt_ids), pa.string())})
    rows = store.rows("SELECT p.* FROM wanted JOIN raw.prompts p USING (prompt_id)", wanted=wanted)
    found = {
        row["prompt_id"]: Prompt(tuple(row["tokens"]), row["text"], row["response_start"], row["tokenizer_id"])
        for row in rows
    }
    if gaps := sorted(set(prompt_ids) - found.keys()):
        raise StoreDamaged(f"the prompt {gaps[0]} of a pair is not in the store: run again, and it is stored")
    return found


def best_layers(
    store: Store, model: Model, concept: Concept, layers: Sequence[int], position: str, n: int
) -> list[int]:
    """Those n of `layers` at which the mean difference tells held-out pairs apart best, ascending.

    By d' of the validation pairs' projections; of the training pairs' where there are none.
    """
    sides, validation = (
        concept_sides(store, model.identity, concept.concept_id, split) for split in ("train", "validation")
    )
    held_out = validation if validation.complete else sides
    first, second = len(sides.positive), len(sides.negative)
    found = []
    for contrast in read_contrasts(store, model.identity, joined([sides, held_out]), list(layers), position):
        positive, negative = (side.astype(np.float64) for side in (contrast.positive, contrast.negative))
        direction = mean_difference(positive[:first], negative[:second])
        apart = d_prime(positive[first:] @ direction, negative[second:] @ direction)
        found.append((-apart if np.isfinite(apart) else np.inf, contrast.layer))
    return sorted(layer for _, layer in sorted(found)[:n])
