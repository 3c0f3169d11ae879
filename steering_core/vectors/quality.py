"""Quality: how far a vector can be trusted, from stored activations alone.

Every vector has `auc` and `d_prime` of its projections on each split; it was made from `train` alone. A vector that a
method found, and not its controls, is also made again from other choices of its training pairs: `split_half`,
`bootstrap`, `sample_size` (n pairs) and `influence` (a pair left out). Unpaired texts are chosen for either side by
itself: n is then that of the smaller side, and an influence is that of one text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.concepts import Split
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.keys import content_key, seed_from
from steering_core.models import ModelIdentity
from steering_core.statistics.separation import Estimate, separation
from steering_core.store import Store
from steering_core.vectors.contrast import Contrast, PromptSides, concept_sides, joined, read_contrasts
from steering_core.vectors.linear import one_thread
from steering_core.vectors.methods import METHODS
from steering_core.vectors.stability import Places, SideSizes, bootstrap, fit_of, influences, sample_sizes, split_half
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector

QUALITIES_VERSION = 1
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Resampling:
    """How often pairs are drawn again, and from which seed."""

    draws: int = 100
    seed: int = 0


@one_thread()
def assess(store: Store, model: ModelIdentity, vector_ids: Sequence[str], resampling: Resampling | None = None) -> Done:
    """Have the store hold the qualities of those vectors of `model` that were derived from a concept's pairs."""
    resampling = resampling or Resampling()
    vectors = [v for v in vectors_by_id(store, vector_ids) if v.derived and v.model_id == model.model_id]
    by_auc = {_quality_id(v, resampling, "auc", "train"): v for v in vectors}  # a row that every assessed vector has
    todo = [by_auc[i] for i in sorted(store.absent("qualities", by_auc))]
    done = Done([v.vector_id for v in vectors], Work(len(todo), len(vectors) - len(todo)))
    with done.work.timed():
        rows: list[dict[str, Any]] = []
        for concept_id, position in sorted({(v.concept_id or "", v.position) for v in todo}):
            some = [v for v in todo if (v.concept_id, v.position) == (concept_id, position)]
            rows += _of_concept(store, model, concept_id, position, some, resampling)
        store.append("qualities", rows)
    return done


def _of_concept(
    store: Store,
    model: ModelIdentity,
    concept_id: str,
    position: str,
    vectors: Sequence[Vector],
    resampling: Resampling,
) -> Iterator[dict[str, Any]]:
    """The rows of vectors that share a concept and a position; its activations are read once."""
    splits = [concept_sides(store, model, concept_id, split) for split in SPLITS]
    places = dict(zip(SPLITS, _places(splits), strict=True))
    for contrast in read_contrasts(store, model, joined(splits), sorted({v.layer for v in vectors}), position):
        for vector in (v for v in vectors if v.layer == contrast.layer):
            yield from _separations(vector, contrast, places, resampling)
            if vector.control is None and vector.method in METHODS:
                yield from _stabilities(vector, contrast, places["train"], splits[0].row_ids, resampling)


def _places(splits: Sequence[PromptSides]) -> list[Places]:
    """The indices of each split's rows among the rows of all splits, for either side."""
    positive, negative = (
        np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        for sizes in ([len(s.positive) for s in splits], [len(s.negative) for s in splits])
    )
    return list(zip(positive, negative, strict=True))


def _separations(
    vector: Vector, contrast: Contrast, places: dict[Split, Places], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    """Rows of `auc` and `d_prime` of the vector's projections on each split."""
    positive, negative = (side @ vector.in_float64 for side in (contrast.positive, contrast.negative))  # (N,), (M,)
    for split, (some, others) in places.items():
        if len(some) and len(others):
            seed = seed_from(resampling.seed, split)
            sides = positive[some], negative[others]
            found = separation(*sides, 10 * resampling.draws, seed, paired=contrast.paired)
            for metric, estimate in found.items():
                yield _row(vector, resampling, metric, estimate, split=split)


def _stabilities(
    vector: Vector, contrast: Contrast, places: Places, row_ids: Sequence[str], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    """Rows of `split_half`, `bootstrap`, `sample_size` and `influence`: the method on other choices of its rows."""
    some, others = places
    rows, random = SideSizes(len(some), len(others), contrast.paired), np.random.default_rng(resampling.seed)
    fit = fit_of(vector.method, contrast.positive[some], contrast.negative[others])
    whole = fit(rows.all)
    once = {
        "split_half": split_half(fit, rows, resampling.draws // 2, random),
        "bootstrap": bootstrap(fit, whole, rows, resampling.draws, random),
    }
    for metric, estimate in once.items():
        if estimate:
            yield _row(vector, resampling, metric, estimate)
    for estimate in sample_sizes(fit, whole, rows, random):
        yield _row(vector, resampling, "sample_size", estimate)
    for row_id, value in zip(row_ids, influences(fit, whole, rows), strict=True):
        if np.isfinite(value):
            yield _row(vector, resampling, "influence", Estimate(value, None, None, rows.n), pair_id=row_id)


def _quality_id(
    vector: Vector,
    resampling: Resampling,
    metric: str,
    split: str | None = None,
    pair_id: str | None = None,
    n: int | None = None,
) -> str:
    made_of = (vector.vector_id, resampling.draws, resampling.seed, metric, split, pair_id, n)
    return content_key("quality", QUALITIES_VERSION, *made_of)


def _row(
    vector: Vector,
    resampling: Resampling,
    metric: str,
    estimate: Estimate,
    split: str | None = None,
    pair_id: str | None = None,
) -> dict[str, Any]:
    n = estimate.n if metric == "sample_size" else None
    return {
        "quality_id": _quality_id(vector, resampling, metric, split, pair_id, n),
        "vector_id": vector.vector_id,
        "metric": metric,
        "split": split,
        "pair_id": pair_id,
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n": estimate.n,
        "draws": resampling.draws,
        "seed": resampling.seed,
    }
