"""Fits: trained vectors, made from a concept's stored pairs and an open model, each stored as soon as it is trained.

What the store holds is not trained again. A process that dies while it trains a vector leaves nothing of it behind.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.concepts import Concept
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import SteerflowError, StoreDamaged, VectorError
from steering_core.foundation.keys import content_key, seed_from
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model, ModelIdentity
from steering_core.prompts import Prompt
from steering_core.statistics.separation import d_prime
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, concept_sides, joined, read_contrasts
from steering_core.vectors.controls import is_no_control, random_direction
from steering_core.vectors.derive import Wanted, training_sides, vector_of, wanted_vectors
from steering_core.vectors.labels import note_derived
from steering_core.vectors.methods import TRAINED, checked_direction, faults_named, is_joint, mean_difference
from steering_core.vectors.saving import restore
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.training.at_layer import Training, training_at
from steering_core.vectors.training.joint import JointTraining
from steering_core.vectors.training.pair_passes import PairPasses
from steering_core.vectors.training.pairs import SplitAnswers, split_answers

TRAINING_VERSION = 1
Notes = dict[str, Any]
"""How a trained method found a vector (steps, losses, …); part of the vector's lineage."""


def train(
    store: Store,
    model: Model,
    concept: Concept,
    layers: Mapping[str, Sequence[int]],
    position: str,
    controls: int,
    progress: Progress = silent,
) -> Done:
    """Have the store hold each trained method's vector at each of its layers, with `controls` controls of either kind.

    `layers` are those of every method, by its name; the store has the activations there. A `shuffled` control is
    trained on shuffled labels (`pairs.answer_pairs`) and given the length of its vector. Raises VectorError where a
    method finds no direction, or needs pairs and has unpaired texts.
    """
    identity = model.identity
    sides = training_sides(store, identity, concept, list(layers))
    validation = concept_sides(store, identity, concept.concept_id, "validation")
    kind = () if sides.paired else ("unpaired",)
    pairs_key = content_key("trained on", TRAINING_VERSION, *kind, sides.rows, validation.rows)
    wanted = [
        w
        for method, at in layers.items()
        for w in wanted_vectors(identity, concept, [method], at, position, pairs_key, controls)
    ]
    missing = store.absent("vectors", [w.vector_id for w in wanted])
    fits = [fit for fit in _fits(wanted) if any(w.vector_id in missing for w in fit)]
    done = Done([w.vector_id for w in wanted], Work(len(missing), len(wanted) - len(missing)))
    with done.work.timed():
        if fits:
            prompts = _prompts(store, {*sides.prompt_ids, *validation.prompt_ids})
            training, held_out = (_answers(prompts, some) for some in (sides, validation))
            passes = PairPasses(model, training, held_out, sorted({w.layer for fit in fits for w in fit}))
            own = {(w.method, w.layer): w.vector_id for w in wanted if w.control is None}
            finished = 0
            for fit, contrasts in _with_contrasts(store, identity, sides, fits, position):
                progress(finished, len(fits))
                own_ids = [own[w.method, w.layer] for w in fit]
                directions, notes = _directions(store, concept, passes, contrasts, fit[0], own_ids)
                both = zip(fit, contrasts, directions, strict=True)
                vectors = [vector_of(identity, concept, c, position, w, found, notes) for w, c, found in both]
                store.append("vectors", [v.row(sides.prompt_ids) for v in vectors if v.vector_id in missing])
                finished += 1
            progress(finished, len(fits))
            done.work.forward_passes += passes.work.forward_passes
            done.work.tokens += passes.work.tokens
        restore(store, done.ids)
        note_derived(store, done.ids)
    return done


def _answers(prompts: Mapping[str, Prompt], sides: PromptSides) -> SplitAnswers:
    """The stored prompts of a split as answers."""
    positive, negative = ([prompts[i] for i in side] for side in (sides.positive, sides.negative))
    return split_answers(positive, negative, sides.paired)


def _fits(wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    """The wanted vectors by fit, one run of a method: a vector by itself, or a joint method's vectors of all layers."""
    found: dict[tuple[Any, ...], list[Wanted]] = {}
    for w in wanted:
        layer = None if is_joint(w.method) else w.layer
        found.setdefault((w.method, w.control, w.draw, layer), []).append(w)
    return list(found.values())


def _with_contrasts(
    store: Store, model: ModelIdentity, sides: PromptSides, fits: Sequence[list[Wanted]], position: str
) -> Iterator[tuple[list[Wanted], list[Contrast]]]:
    """Each fit with the contrasts of its layers, once all are read; contrasts that no later fit needs are dropped."""
    read: dict[int, Contrast] = {}
    for contrast in read_contrasts(store, model, sides, sorted({w.layer for fit in fits for w in fit}), position):
        read[contrast.layer] = contrast
        yield from ((fit, [read[w.layer] for w in fit]) for fit in fits if fit[-1].layer == contrast.layer)
        waited_for = {w.layer for fit in fits for w in fit if fit[-1].layer > contrast.layer}
        read = {layer: kept for layer, kept in read.items() if layer in waited_for}


def _directions(
    store: Store,
    concept: Concept,
    passes: PairPasses,
    contrasts: Sequence[Contrast],
    wanted: Wanted,
    own_ids: Sequence[str],
) -> tuple[list[np.ndarray], Notes | None]:
    """The directions (D,) of one fit at its layers, and the method's notes; `wanted` is the fit's first vector.

    `own_ids` are the vectors that the method finds without shuffled labels; a control is as long as these.
    """
    if wanted.control is None or wanted.seed is None:
        return _trained(concept, passes, contrasts, wanted.method, None)
    own = [vector.in_float64 for vector in vectors_by_id(store, list(own_ids))]
    if wanted.control == "random":
        return [random_direction(like, wanted.seed) for like in own], None
    return _shuffled(concept, passes, contrasts, wanted.method, own, wanted.seed)


def _shuffled(
    concept: Concept,
    passes: PairPasses,
    contrasts: Sequence[Contrast],
    method: str,
    own: Sequence[np.ndarray],
    seed: int,
) -> tuple[list[np.ndarray], Notes | None]:
    """What the method finds in shuffled labels, together as long as its `own` directions, and the notes.

    Random directions where nothing is found in the shuffled labels, or the method's own directions are found again.
    """
    instead = [random_direction(like, seed) for like in own]
    try:
        found, notes = _trained(concept, passes, contrasts, method, seed)
    except VectorError:  # the labels cancel: without shuffling the method did find a direction
        return instead, None
    units = [contrasts[0].residual_norm / contrast.residual_norm for contrast in contrasts]  # layers count alike
    new, old = (np.concatenate([u * one for u, one in zip(units, some, strict=True)]) for some in (found, own))
    if is_no_control(new, old):
        return instead, None
    return [one * (np.linalg.norm(old) / np.linalg.norm(new)) for one in found], notes


def _trained(
    concept: Concept, passes: PairPasses, contrasts: Sequence[Contrast], method: str, shuffled: int | None
) -> tuple[list[np.ndarray], Notes]:
    """A trained method's directions at the layers of its fit, and its notes; `shuffled` is the seed of the labels."""
    first = contrasts[0].layer
    seed = seed_from("trained", concept.concept_id, method, first, shuffled)
    each = [training_at(passes, c.layer, c.positive, c.negative, c.residual_norm, seed, shuffled) for c in contrasts]
    try:
        return trained_directions(method, each)
    except SteerflowError as error:
        raise type(error)(f"{concept.name} at layer {first}: {error}") from None


def trained_directions(method: str, each: Sequence[Training]) -> tuple[list[np.ndarray], Notes]:
    """What the trained method finds, (D,) float64 for each of the layers' trainings, and its notes.

    A method that is not joint is given one training. Raises VectorError where it finds no direction.
    """
    training = JointTraining(tuple(each)) if is_joint(method) else each[0]
    with faults_named(method):
        found = np.asarray(TRAINED[method].function(training))
    rows = list(found) if is_joint(method) else [found]
    notes = {**training.notes, "seed": training.seed, "version": TRAINING_VERSION}
    if is_joint(method):
        notes |= {"layers": [one.layer for one in each]}
    if len(rows) != len(each):
        raise VectorError(f"{method} returned shape {found.shape} for {len(each)} layers: give one row for each")
    width, data = each[0].activations.shape[1], f"{each[0].n_pairs} pairs"
    return [checked_direction(method, row, width, data) for row in rows], notes


def trained_direction(method: str, training: Training) -> np.ndarray:
    """What the trained method finds at one layer, (D,) float64; its notes are added to the training's.

    Raises VectorError where it finds no direction.
    """
    (found,), notes = trained_directions(method, [training])
    training.notes.update(notes)
    return found


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
    """The n of `layers` at which the mean difference tells held-out pairs apart best, ascending.

    The measure is d' of the validation pairs' projections, or of the training pairs' where there are none.
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
        separation = d_prime(positive[first:] @ direction, negative[second:] @ direction)
        found.append((-separation if np.isfinite(separation) else np.inf, contrast.layer))
    return sorted(layer for _, layer in sorted(found)[:n])
