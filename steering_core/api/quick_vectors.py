"""Vectors and interventions from a pair of texts, or a few, without a store: for trying things out.

A vector worth trusting comes from many pairs and is measured beside its controls (`pipeline`); these are the forms in
which steering was first described.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steering_core.activations.in_memory import activations_of
from steering_core.activations.sites import checked_position
from steering_core.backend.mlx import mx
from steering_core.foundation.errors import VectorError
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.where import Where
from steering_core.models import Model
from steering_core.prompts import Prompt, example, prompt
from steering_core.vectors.methods import derived_direction, is_trained, method_name
from steering_core.vectors.train import trained_direction
from steering_core.vectors.training import PairPasses, answer_pair, training_at
from steering_core.vectors.vector import Vector


def residual_stream(model: Model, tokens: tuple[int, ...], layer: int) -> np.ndarray:
    """The stream after block `layer` at every token, (T, D) float32. Raises LayerNotFound."""
    model.checked_layers([layer])
    with model.taps.observed([layer]) as seen:
        model.network(mx.array([tokens]), cache=model.new_cache())
    return np.array(seen[layer][0].astype(mx.float32))


def contrast(
    model: Model,
    positive: str | Sequence[str],
    negative: str | Sequence[str],
    layer: int,
    question: str | None = None,
) -> Vector:
    """The difference of two texts' streams at their last tokens, (D,), as a vector for `layer`. Turner et al. 2023.

    Lists of as many texts are pairs, and the vector is their mean difference. With a `question` the texts are answers
    to it, in the model's chat template. Raises VectorError where both texts have the same stream there or the lists are
    not of one length, LayerNotFound, PromptError.
    """
    if not isinstance(positive, str) or not isinstance(negative, str):
        return derive_vector(model, _paired(positive, negative), layer, question=question)
    sides = [_read(model, side, question).tokens for side in (positive, negative)]
    streams = [residual_stream(model, tokens, layer) for tokens in sides]
    direction = streams[0][-1] - streams[1][-1]
    if not np.isfinite(direction).all() or not direction.any():
        raise VectorError(f"{positive!r} and {negative!r} have no direction between them at layer {layer}: change one")
    norms = [np.linalg.norm(stream[1:] if len(stream) > 1 else stream, axis=-1) for stream in streams]
    return Vector(
        vector_id="",
        model_id=model.identity.model_id,
        concept_id=None,
        method="contrast",
        layer=layer,
        residual_norm=float(np.concatenate(norms).mean(dtype=np.float64)),
        direction=direction,
        architecture=model.identity.architecture,
        n_pairs=1,
        lineage={"made": "contrast", "positive": positive, "negative": negative},
    ).keyed()


def _paired(positive: str | Sequence[str], negative: str | Sequence[str]) -> list[tuple[str, str]]:
    if isinstance(positive, str) or isinstance(negative, str):
        raise VectorError("one side is a text and the other a list: give two texts, or two lists of as many texts")
    if len(positive) != len(negative):
        raise VectorError(
            f"{len(positive)} positive texts and {len(negative)} negative ones: a contrast pairs them one by one, as "
            "derive_vector(model, [(positive, negative), …], layer) does"
        )
    return list(zip(positive, negative, strict=True))


def derive_vector(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    layer: int,
    method: str = "mean_difference",
    position: str = "last",
    question: str | None = None,
) -> Vector:
    """A vector for `layer` from pairs of a positive and a negative text, by any method; no pair is held out.

    A trained method (`preference`, …) trains it here and now. With a `question` the texts are answers to it, in the
    model's chat template. Raises VectorError where the method finds no direction, LayerNotFound, PositionUnknown,
    PromptError.
    """
    if not pairs or any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise VectorError("a vector is derived from pairs: give [(positive text, negative text), …]")
    model.checked_layers([layer])
    prompts = [_read(model, pair[side], question) for side in (0, 1) for pair in pairs]
    values, norms = activations_of(model, prompts, [layer], checked_position(position))  # (2N, 1, D), (2N, 1)
    positive, negative = np.split(values[:, 0], 2)
    residual_norm, how = float(norms.mean(dtype=np.float64)), dict[str, Any]()
    if is_trained(method_name(method)):
        passes = PairPasses(model, list(map(answer_pair, prompts[: len(pairs)], prompts[len(pairs) :])), [], [layer])
        training = training_at(passes, layer, positive, negative, residual_norm, seed=0)
        direction, how = trained_direction(method_name(method), training), {"trained": training.notes}
    else:
        direction = derived_direction(method, positive, negative)
    direction = direction.astype(np.float32)
    return Vector(
        vector_id="",
        model_id=model.identity.model_id,
        concept_id=None,
        method=method_name(method),
        layer=layer,
        residual_norm=residual_norm,
        direction=direction.astype(np.float32),
        architecture=model.identity.architecture,
        position=position,
        n_pairs=len(pairs),
        lineage={"made": "pairs", "pairs": [list(pair) for pair in pairs], "question": question, **how},
    ).keyed()


def _read(model: Model, text: str, question: str | None) -> Prompt:
    return prompt(model, question, chat=True, answer=text) if question else example(model, text, chat=False)


def position_deltas(layer: int, deltas: Mapping[int, np.ndarray], alpha: float = 1.0) -> Intervention:
    """alpha times each position's own delta (D,), added at that position; negative ones count from the prompt's end."""
    return Intervention(
        tuple(Change(layer, delta, alpha, ADD.name, Where("all", (position,))) for position, delta in deltas.items())
    )


def activation_addition(model: Model, positive: str, negative: str, layer: int, alpha: float) -> Intervention:
    """The difference of two texts' streams, position by position, added at a prompt's first tokens. Turner et al. 2023.

    The shorter text counts as padded with zeros; the first token, which both share as a rule, is left alone.
    """
    streams = [residual_stream(model, prompt(model, text, chat=False).tokens, layer) for text in (positive, negative)]
    length = max(map(len, streams))
    padded = [np.pad(stream, ((0, length - len(stream)), (0, 0))) for stream in streams]
    return position_deltas(layer, {i: padded[0][i] - padded[1][i] for i in range(1, length)}, alpha)
