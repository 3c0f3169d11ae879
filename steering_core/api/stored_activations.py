"""Activations of a concept's pairs or of texts in Python, as arrays and frames: the store's, or read first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from steering_core.activations.extract import extract
from steering_core.activations.sites import SITE, checked_position
from steering_core.api.options import StorePath, check_split, concept_or_name
from steering_core.api.text_activations import LayeredRows, TextActivations, TextsLike, read_texts
from steering_core.concepts import Concept, Split, load_concept
from steering_core.foundation.bounds import checked_layer
from steering_core.foundation.errors import ConceptError, LayerNotFound, QueryError
from steering_core.foundation.validation import Strict
from steering_core.models import Model
from steering_core.pipeline.rows import store_pairs
from steering_core.pipeline.stages import registered
from steering_core.store import Store, default_store

RESPONSE, EVERY_TOKEN = "response", "all"  # positions


@dataclass(frozen=True, repr=False)
class Activations(LayeredRows):
    """Activations at one position, with the pair and side that each belongs to: columns of the view `activations`."""

    def __repr__(self) -> str:
        _, positive = self.numpy()
        return self._described(f"{positive.sum()} positive and {(~positive).sum()} negative")

    def numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """The activations (N, D) float32, and whether each is of a positive side, (N,) bool, for classifiers.

        Of a list of layers they are (N, L, D), in that list's order.
        """
        values = self.values()
        sides = self.table["side"].slice(0, len(values)).to_pylist()  # the same at every layer
        return values, np.array([side == "positive" for side in sides], bool)


@overload
def activations(  # type: ignore[overload-overlap]  # a text is a concept's name, not texts of one letter
    concept: str | Path | Concept,
    layer: int | Sequence[int],
    model: str | Model | None = None,
    split: Split | None = None,
    store: StorePath = None,
    position: str | None = None,
) -> Activations: ...


@overload
def activations(
    concept: TextsLike,
    layer: int | Sequence[int],
    model: Model,
    split: None = None,
    store: StorePath = None,
    position: str | None = None,
) -> TextActivations: ...


def activations(
    concept: str | Path | Concept | TextsLike,
    layer: int | Sequence[int],
    model: str | Model | None = None,
    split: Split | None = None,
    store: StorePath = None,
    position: str | None = None,
) -> Activations | TextActivations:
    """The activations of a concept's pairs at a layer or several, in a fixed order; of one `split` where it is given.

    They are read from the store; with an open `Model` what is missing is extracted first, all layers in one pass, and
    `concept` may then be a file as well, or a list of texts, whose activations are `TextActivations` in its order.
    Texts by themselves are read as `derive_vector` reads them; {"prompt": …, "text": …} is an answer.

    `position` says over which tokens each is the mean: `response`, as in runs, is the answer's; of texts without
    prompts it is `last` unless it is named. Raises QueryError where the store has none, with the positions, layers and
    splits that there are, and where it has those of several models and none is named; ConceptError, PromptError for
    what are no texts, ModelError for texts without an open model, LayerNotFound, PositionUnknown.
    """
    several = isinstance(layer, Sequence | np.ndarray) and not isinstance(layer, str)
    asked: Iterable[Any] = layer if isinstance(layer, Sequence | np.ndarray) and several else [layer]
    if not (layers := [checked_layer(one) for one in asked]):
        raise LayerNotFound("no layer is named: give one, or a list of them")
    if isinstance(concept, Iterable) and not isinstance(concept, str | bytes | Mapping | Strict):
        if split is not None:
            raise QueryError(f"texts have no splits: leave split={split!r} out, or make a Concept of them")
        return read_texts(concept, layers, model, store, position, several)
    wanted, position = concept_or_name(concept), checked_position(position or RESPONSE)
    opened = Store(store or default_store()) if isinstance(model, Model) else Store.existing(store)
    if split is not None:
        check_split(split)
    if isinstance(model, Model) or isinstance(concept, Path):
        wanted = wanted if isinstance(wanted, Concept) else load_concept(wanted)
    if isinstance(model, Model) and isinstance(wanted, Concept):
        _extract(model, wanted, layers, position, opened)
        model = model.identity.model_id
    whose = _whose(opened, wanted, model, {"position": [position], "layer": layers, "split": [split]})
    return Activations(_rows(opened, whose, layers, position, split), tuple(layers), position, several)


def _extract(model: Model, concept: Concept, layers: Sequence[int], position: str, store: Store) -> None:
    """Have the store hold what `model` reads of a concept's pairs at those layers."""
    model.checked_layers(list(layers))
    with store.in_use():
        registered(store, model)
        extract(model, store, store_pairs(store, model, [concept]), layers, position)


def _whose(store: Store, concept: str | Concept, model: Any, wanted: Mapping[str, Sequence[Any]]) -> tuple[str, str]:
    """The model and the concept whose activations are meant, by their ids.

    Raises QueryError where there are none or several, or none of the position, a layer or the split that is `wanted`.
    """
    called, concept_id = (concept.name, concept.concept_id) if isinstance(concept, Concept) else (concept, None)
    rows = store.rows(
        "SELECT DISTINCT model, model_id, concept_id, position, layer, split FROM activations WHERE concept = $1 "
        "AND site = $2 AND side IS NOT NULL AND ($3 IS NULL OR $3 IN (model, model_id)) "
        "AND ($4 IS NULL OR concept_id = $4)",
        [called, SITE, model, concept_id],
    )
    has_none = f"the store {store.root} has no activations of {called!r}"
    if not rows:
        raise QueryError(f"{has_none}: run a spec first, or give an open model, which reads them: model=open_model(…)")
    if len(models := sorted({row["model"] for row in rows})) > 1:
        raise QueryError(f"{called!r} was read by {', '.join(models)}: name one with model=")
    if len({row["model_id"] for row in rows}) > 1:
        ids = ", ".join(sorted({row["model_id"] for row in rows}))
        raise QueryError(f"{called!r} was read by several models called {models[0]} ({ids}): name one with model=")
    if len({row["concept_id"] for row in rows}) > 1:
        return _whose(store, _newest(called, store), model, wanted)
    for column, values in wanted.items():
        for value in values:
            there = sorted({row[column] for row in rows})
            if value is not None and value not in there:
                others = ", ".join(map(str, there))
                raise QueryError(f"{has_none} at {column} {value}, but at {others}: name one with {column}=")
        rows = [row for row in rows if row[column] in values or None in values]
    return rows[0]["model_id"], rows[0]["concept_id"]


def _newest(name: str, store: Store) -> Concept:
    """What a name means now, where the store has several concepts that went by it. Raises QueryError."""
    try:
        return load_concept(name)
    except ConceptError:
        raise QueryError(
            f"the store {store.root} has activations of several concepts called {name!r}: give the one that you mean, "
            "load_concept(FILE), in place of its name"
        ) from None


def _rows(store: Store, whose: tuple[str, str], layers: Sequence[int], position: str, split: str | None) -> pa.Table:
    """The rows of the view by layer, pair, side and token, as many at each layer. Raises QueryError."""
    token = "token, " if position == EVERY_TOKEN else ""
    found = store.query(
        f"SELECT model, concept, pair_id, side, split, text, position, layer, {token}residual_norm, activation "
        "FROM activations LEFT JOIN (SELECT prompt_id, text FROM raw.prompts) USING (prompt_id) "
        "WHERE model_id = $1 AND concept_id = $2 AND list_contains($3, layer) AND position = $4 "
        "AND ($5 IS NULL OR split = $5) AND site = $6 AND side IS NOT NULL ORDER BY layer, pair_id, side, token",
        [*whose, sorted(set(layers)), position, split, SITE],
    )
    counts = Counter(found["layer"].to_pylist())
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{n} at layer {layer}" for layer, n in sorted(counts.items()))
        raise QueryError(f"the store {store.root} has activations of {each}: an open model= reads what is missing")
    return found
