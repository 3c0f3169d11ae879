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
from steering_core.concepts.concept import SIDES, Unpaired
from steering_core.foundation.errors import VectorError
from steering_core.foundation.validation import checked
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.where import Where
from steering_core.models import Model
from steering_core.prompts import Prompt, example, prompt
from steering_core.vectors.methods import check_unpaired, derived_direction, is_trained, method_name
from steering_core.vectors.train import trained_direction
from steering_core.vectors.training import AnswerSides, PairPasses, SplitAnswers, answer_pair, lone_answer, training_at
from steering_core.vectors.vector import Vector

Pairs = Sequence[tuple[str, str]]
"""(positive text, negative text) of each pair."""


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

    Of two lists of texts, one longer than the other or not, the vector is the difference of their means. With a
    `question` the texts are answers to it, in the model's chat template. Raises VectorError where both texts have the
    same stream there or a list is empty, LayerNotFound, PromptError.
    """
    if not isinstance(positive, str) or not isinstance(negative, str):
        return derive_vector(model, _listed(positive, negative), layer, question=question)
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


def _listed(positive: str | Sequence[str], negative: str | Sequence[str]) -> Pairs | Unpaired:
    """Lists of as many texts as pairs, and others as unpaired texts."""
    if isinstance(positive, str) or isinstance(negative, str):
        raise VectorError("one side is a text and the other a list: give two texts, or two lists of texts")
    if len(positive) != len(negative):
        return unpaired(positive, negative)
    return list(zip(positive, negative, strict=True))


def unpaired(positive: Sequence[str], negative: Sequence[str]) -> Unpaired:
    """Texts of either side that do not belong together in pairs, for `derive_vector`. Raises VectorError for none."""
    return checked(
        Unpaired, {"positive": list(positive), "negative": list(negative)}, "the unpaired texts", VectorError
    )


def derive_vector(
    model: Model,
    pairs: Pairs | Unpaired,
    layer: int,
    method: str = "mean_difference",
    position: str = "last",
    question: str | None = None,
) -> Vector:
    """A vector for `layer` from pairs of a positive and a negative text, by any method; no pair is held out.

    Texts without partners are given as `unpaired(positive, negative)`, to methods that take them. A trained method
    (`preference`, …) trains it here and now. With a `question` the texts are answers to it, in the model's chat
    template. Raises VectorError where the method finds no direction or needs pairs, LayerNotFound, PositionUnknown,
    PromptError.
    """
    sides, paired = _sides(pairs), not isinstance(pairs, Unpaired)
    model.checked_layers([layer])
    prompts = [[_read(model, text, question) for text in side] for side in sides]
    values, norms = activations_of(model, [*prompts[0], *prompts[1]], [layer], checked_position(position))  # (R, 1, D)
    positive, negative = np.split(values[:, 0], [len(prompts[0])])
    residual_norm, how = float(norms.mean(dtype=np.float64)), dict[str, Any]()
    if is_trained(method_name(method)):
        if not paired:
            check_unpaired(method_name(method), len(positive), len(negative))
        passes = PairPasses(model, _answered(prompts, paired), [], [layer])
        training = training_at(passes, layer, positive, negative, residual_norm, seed=0)
        direction, how = trained_direction(method_name(method), training), {"trained": training.notes}
    else:
        direction = derived_direction(method, positive, negative, paired=paired)
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
        n_pairs=len(positive) if paired else 0,
        lineage={**_made(sides, paired), "question": question, **how},
    ).keyed()


def _sides(pairs: Pairs | Unpaired) -> tuple[list[str], list[str]]:
    """The positive and the negative texts. Raises VectorError for what is neither pairs nor unpaired texts."""
    if isinstance(pairs, Unpaired):
        return [example.text for example in pairs.positive], [example.text for example in pairs.negative]
    if not pairs or any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise VectorError(
            "a vector is derived from pairs: give [(positive text, negative text), …], or unpaired(positive, negative)"
        )
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _made(sides: tuple[list[str], list[str]], paired: bool) -> dict[str, Any]:
    """What a vector's lineage says of the texts that it comes from."""
    if paired:
        return {"made": "pairs", "pairs": list(map(list, zip(*sides, strict=True)))}
    counts = dict(zip(SIDES, map(len, sides), strict=True))
    return {"made": "texts", "texts": dict(zip(SIDES, sides, strict=True)), "unpaired": counts}


def _answered(prompts: Sequence[Sequence[Prompt]], paired: bool) -> SplitAnswers:
    positive, negative = prompts
    if paired:
        return list(map(answer_pair, positive, negative))
    return AnswerSides(tuple(map(lone_answer, positive)), tuple(map(lone_answer, negative)))


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
