"""Vectors and interventions from a pair of texts, or a few, without a store: for trying things out.

A vector worth trusting comes from many pairs and is measured beside its controls (`pipeline`); these are the forms in
which steering was first described.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.activations.in_memory import activations_of
from steering_core.activations.sites import checked_position
from steering_core.backend.mlx import mx
from steering_core.concepts.concept import SIDES, Concept, Example, Pair, Side, Unpaired
from steering_core.concepts.formats.columns import Columns, found_columns
from steering_core.concepts.library import load_concept
from steering_core.foundation.errors import VectorError
from steering_core.foundation.given import frame_rows, listed
from steering_core.foundation.sequences import common_length
from steering_core.foundation.validation import checked, shown
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.where import Where
from steering_core.models import Model
from steering_core.prompts import Prompt, prompt, sided_prompt, text_prompt
from steering_core.vectors.methods import check_unpaired, derived_direction, is_trained, method_key, method_name
from steering_core.vectors.training.at_layer import training_at
from steering_core.vectors.training.fits import trained_direction
from steering_core.vectors.training.pair_passes import PairPasses
from steering_core.vectors.training.pairs import split_answers
from steering_core.vectors.vector import Vector

Pairs = Sequence[tuple[str, str]]
"""(positive text, negative text) of each pair."""
PairsLike = Iterable[tuple[str, str] | Pair | Mapping[str, str]] | Unpaired | Concept | str | os.PathLike[str]
"""What a vector is derived from: pairs, with prompts of their own or without, texts without partners, or a concept.

Pairs come in any iterable, or in a frame of pandas or polars by its columns; a concept by its name or path as well.
"""


def residual_stream(model: Model, tokens: tuple[int, ...], layer: int) -> np.ndarray:
    """The stream after block `layer` at every token, (T, D) float32. Raises LayerNotFound."""
    model.checked_layers([layer])
    with model.taps.observed([layer]) as seen:
        model.network(mx.array([tokens]), cache=model.new_cache())
    return np.array(seen[layer][0].astype(mx.float32))


def contrast(
    model: Model,
    positive: str | Iterable[str],
    negative: str | Iterable[str],
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
    sides = [text_prompt(model, side, question).tokens for side in (positive, negative)]
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


def _listed(positive: Iterable[str], negative: Iterable[str]) -> Pairs | Unpaired:
    """Lists of as many texts as pairs, and others as unpaired texts."""
    if isinstance(positive, str) or isinstance(negative, str):
        other = type(negative if isinstance(positive, str) else positive).__name__
        raise VectorError(f"one side is a text and the other a {other}: give two texts, or two lists of texts")
    sides = [_texts(side, texts) for side, texts in zip(SIDES, (positive, negative), strict=True)]
    if len(sides[0]) != len(sides[1]):
        return unpaired(*sides)
    return list(zip(*sides, strict=True))


def unpaired(positive: Iterable[str], negative: Iterable[str]) -> Unpaired:
    """Texts of either side that do not belong together in pairs, for `derive_vector`.

    Raises VectorError where a side has none, and for what are no texts.
    """
    sides = {side: _texts(side, texts) for side, texts in zip(SIDES, (positive, negative), strict=True)}
    return checked(Unpaired, sides, "the set of unpaired texts", VectorError)


def _texts(side: Side, given: Any) -> list[Any]:
    """A side's texts, of any iterable; `Example`s and dictionaries pass. Raises VectorError for what are no texts."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise VectorError(f"the {side} side is {_kind(given)}: give texts")
    texts = list(given)
    for i, text in enumerate(texts):
        if not isinstance(text, str | Example | Mapping):
            raise VectorError(f"the {side} text {i} is {_kind(text)}, no text: leave it out, or make a text of it")
    return texts


def _kind(value: Any) -> str:
    """What somebody gave in place of a text, and of bytes how to make one."""
    if isinstance(value, bytes):
        return f"{shown(value)}, bytes, of which .decode() makes a text"
    return shown(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"


def derive_vector(
    model: Model,
    pairs: PairsLike,
    layer: int,
    method: str = "mean_difference",
    position: str | None = None,
    question: str | None = None,
) -> Vector:
    """A vector for `layer` from pairs of a positive and a negative text, by any method.

    Pairs are (positive, negative), or `Pair`s and dictionaries that may have a `prompt` of their own, or the rows of a
    frame; texts without partners are `unpaired(positive, negative)`, for methods that take them. All pairs are used; of
    a `Concept`, or the one of a name or path, only the training split, as in runs. `position` defaults to `response`
    for a concept, `Pair`s, dictionaries and texts with a prompt, as in runs, and otherwise to `last`. With a `question`
    texts without a prompt are answers to it, in the model's chat template. A trained method (`preference`, …) trains
    the vector in this call. Raises VectorError where the method finds no direction or needs pairs, and for what are no
    texts; ConceptError, LayerNotFound, PositionUnknown, PromptError.
    """
    sides, name, how = _sides(model, pairs, question), method_name(method), dict[str, Any]()
    (layer,) = model.checked_layers([layer])
    place = checked_position(position or ("response" if sides.as_in_runs else "last"))
    values, norms = activations_of(model, [*sides.positive, *sides.negative], [layer], place)  # (R, 1, D)
    positive, negative = np.split(values[:, 0], [len(sides.positive)])
    residual_norm = float(norms.mean(dtype=np.float64))
    if is_trained(name):
        if not sides.paired:
            check_unpaired(name, len(positive), len(negative))
        answers = split_answers(sides.positive, sides.negative, sides.paired)
        passes = PairPasses(model, answers, [], [layer])
        training = training_at(passes, layer, positive, negative, residual_norm, seed=0)
        direction, how = trained_direction(name, training), {"trained": training.notes}
    else:
        direction = derived_direction(name, positive, negative, paired=sides.paired)
    return Vector(
        vector_id="",
        model_id=model.identity.model_id,
        concept_id=None,
        method=name,
        layer=layer,
        residual_norm=residual_norm,
        direction=direction.astype(np.float32),
        architecture=model.identity.architecture,
        position=place,
        n_pairs=len(positive) if sides.paired else 0,
        lineage={**sides.made, "question": question, "source": method_key(name), **how},
    ).keyed()


@dataclass(frozen=True)
class _Sides:
    """The prompts of either side, whether they are pairs, and what the lineage says of their texts (`made`).

    `as_in_runs`: whether they are a concept's, or have prompts, so that the position defaults to `response`.
    """

    positive: list[Prompt]
    negative: list[Prompt]
    paired: bool
    as_in_runs: bool
    made: dict[str, Any]


def _sides(model: Model, pairs: PairsLike, question: str | None) -> _Sides:
    """The two sides as the model reads them. Raises VectorError for what are neither pairs nor other texts."""
    pairs = load_concept(os.fspath(pairs)) if isinstance(pairs, str | os.PathLike) else pairs
    if isinstance(pairs, Concept):
        texts = [pairs.texts_in("train", side) for side in SIDES]
        prompts = [[sided_prompt(model, pairs, text) for text in side] for side in texts]
        made = _made([[text.text for text in side] for side in texts], pairs.unpaired is None)
        return _Sides(prompts[0], prompts[1], pairs.unpaired is None, True, {**made, "concept": pairs.name})
    if isinstance(pairs, Unpaired):
        examples = [[(e.text, e.prompt) for e in side] for side in (pairs.positive, pairs.negative)]
        as_in_runs = any(e.prompt for side in (pairs.positive, pairs.negative) for e in side)
    else:
        given = _rows(pairs)
        read = _pairs(given)
        as_in_runs = any(isinstance(pair, Pair | Mapping) for pair in given)
        examples = [[(pair.positive, pair.prompt) for pair in read], [(pair.negative, pair.prompt) for pair in read]]
    paired = not isinstance(pairs, Unpaired)
    prompts = [[text_prompt(model, text, prompt or question) for text, prompt in side] for side in examples]
    made = _made([[text for text, _ in side] for side in examples], paired)
    if as_in_runs:
        made["prompts"] = [[prompt for _, prompt in side] for side in examples]
    return _Sides(prompts[0], prompts[1], paired, as_in_runs, made)


REMEDY = "give [(positive text, negative text), …], [{positive, negative, prompt}, …], a Concept, or unpaired(…)"


def _rows(given: Any) -> list[Any]:
    """The rows of a frame or of any iterable; tuples with names as dictionaries. Raises VectorError for neither."""
    if (rows := frame_rows(given)) is not None:
        columns = found_columns(list(rows[0])) if rows else None
        if rows and columns is None:
            raise VectorError(
                f"of the columns {', '.join(rows[0])} none are the two sides: call them positive, negative"
            )
        return [_sides_of(row, columns) for row in rows] if columns else []
    found = listed(given)
    if found is None:
        raise VectorError(f"a vector is derived from pairs, not from a {type(given).__name__}: {REMEDY}")
    return [_named(one) for one in found]


def _sides_of(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    prompt = {"prompt": row[columns.prompt]} if columns.prompt else {}
    return {"positive": row[columns.positive], "negative": row[columns.negative], **prompt}


def _named(row: Any) -> Any:
    """A named tuple that names its sides, as of `DataFrame.itertuples`, as a dictionary; anything else as it is."""
    names = getattr(row, "_fields", ())
    if not isinstance(row, tuple) or not set(SIDES) <= set(names):
        return row
    return {name: getattr(row, name) for name in (*SIDES, "prompt") if name in names}


def _pairs(given: Sequence[Any]) -> list[Pair]:
    """Pairs in any form. Raises VectorError for none, and for what is no pair, with its place."""
    pairs = []
    for i, one in enumerate(given):
        if isinstance(one, list | tuple | np.ndarray) and len(one) == 2:
            one = {"positive": one[0], "negative": one[1]}
        if not isinstance(one, Pair | Mapping):
            raise VectorError(f"a vector is derived from pairs, and pair {i} is {one!r}: {REMEDY}")
        if isinstance(one, Mapping):
            for side in SIDES:
                if side in one and not isinstance(one[side], str):
                    raise VectorError(f"the {side} side of pair {i} is {_kind(one[side])}, no text: {REMEDY}")
        pairs.append(one if isinstance(one, Pair) else checked(Pair, dict(one), f"pair {i}", VectorError))
    if not pairs:
        raise VectorError(f"a vector is derived from pairs, and there are none: {REMEDY}")
    return pairs


def _made(sides: Sequence[Sequence[str]], paired: bool) -> dict[str, Any]:
    """What a vector's lineage says of the texts that it comes from."""
    if paired:
        return {"made": "pairs", "pairs": list(map(list, zip(*sides, strict=True)))}
    counts = dict(zip(SIDES, map(len, sides), strict=True))
    return {"made": "texts", "texts": dict(zip(SIDES, sides, strict=True)), "unpaired": counts}


def position_deltas(layer: int, deltas: Mapping[int, np.ndarray], alpha: float = 1.0) -> Intervention:
    """alpha times each position's own delta (D,), added at that position; negative ones count from the prompt's end."""
    return Intervention(
        tuple(Change(layer, delta, alpha, ADD.name, Where("all", (position,))) for position, delta in deltas.items())
    )


def activation_addition(model: Model, positive: str, negative: str, layer: int, alpha: float) -> Intervention:
    """The difference of two texts' streams, position by position, added at a prompt's first tokens. Turner et al. 2023.

    The shorter text counts as padded with zeros. The tokens that both begin with, such as the tokenizer's
    beginning-of-sequence token, have the same streams, and are left alone. Raises VectorError where the texts have the
    same tokens.
    """
    tokens = [prompt(model, text, chat=False).tokens for text in (positive, negative)]
    if tokens[0] == tokens[1]:
        raise VectorError(f"{positive!r} and {negative!r} are the same tokens, so nothing is left to add: change one")
    streams = [residual_stream(model, sequence, layer) for sequence in tokens]
    length = max(map(len, streams))
    padded = [np.pad(stream, ((0, length - len(stream)), (0, 0))) for stream in streams]
    return position_deltas(
        layer, {i: padded[0][i] - padded[1][i] for i in range(common_length(*tokens), length)}, alpha
    )
