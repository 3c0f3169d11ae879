"""Stability: whether another seed, or the other half of the pairs, would recommend the same.

Each variant of a cell is a whole discovery over the same store, so that all that no seed and no pair changes is
reused. What each recommends is a row of the table `stability`.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.concepts import SIDES, Concept
from steering_core.concepts.concept import Example, Unpaired
from steering_core.foundation.keys import content_key
from steering_core.models import Model
from steering_core.pipeline.discover import discover
from steering_core.pipeline.stages import PLAIN, Stages
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Row, TableRows

STABILITY_VERSION = 1
COLUMNS = ("verdict", "method", "layers", "dose", "effect", "effect_low", "effect_high", "perplexity_ratio", "p_value")


@dataclass(frozen=True)
class Variant:
    """A cell with another seed or other pairs: its spec, its concept, and in words `what` is different in them."""

    what: str
    spec: Spec
    concept: Concept


def variants(spec: Spec, concept: Concept, seeds: int, halves: bool) -> list[Variant]:
    """The cell with `seeds` seeds, no two of which share a text's seed, and with either half of its training pairs."""
    grid = spec.generations
    found = [
        Variant(f"seed {seed}", _seeded(spec, seed), concept)
        for seed in range(grid.seed, grid.seed + seeds * grid.samples, grid.samples)
    ]
    if halves:
        found += [Variant(f"half {i + 1} of the pairs", spec, half_of(concept, i)) for i in (0, 1)]
    return found


def _seeded(spec: Spec, seed: int) -> Spec:
    return spec.model_copy(update={"generations": spec.generations.model_copy(update={"seed": seed})})


def half_of(concept: Concept, i: int) -> Concept:
    """The concept with every other training pair, beginning with the first or the second; all else is as it was."""
    left_out = {text.row_id for side in SIDES for text in concept.texts_in("train", side)[1 - i :: 2]}
    kept = [text for text in concept.texts if text.row_id not in left_out]
    items = [item.model_copy(update={"split": concept.item_splits[item.item_id]}) for item in concept.items]
    rest = concept.model_dump(exclude={"pairs", "unpaired", "items"})
    if concept.unpaired is None:
        splits = {text.row_id: text.split for text in kept}
        pairs = [p.model_copy(update={"split": splits[p.pair_id]}) for p in concept.pairs if p.pair_id in splits]
        return Concept(**rest, pairs=tuple(pairs), items=tuple(items))
    examples = [(text.side, Example(text=text.text, prompt=text.prompt, split=text.split)) for text in kept]
    positive, negative = (tuple(example for of, example in examples if of == side) for side in SIDES)
    return Concept(**rest, unpaired=Unpaired(positive=positive, negative=negative), items=tuple(items))


def stability_of(
    run: Run, model: Model, concept: Concept, seeds: int, halves: bool, stages: Stages = PLAIN
) -> TableRows:
    """What every variant of one cell recommends, stored as rows of `stability`; the rows."""
    rows: list[Row] = []
    every = variants(run.spec, concept, seeds, halves)
    for done, variant in enumerate(every):
        this = copy.copy(run)
        this.spec = variant.spec
        stages.extract_activations(this, model, [variant.concept])
        found = discover(this, model, variant.concept, stages)
        row = {
            "stability_id": content_key("stability", STABILITY_VERSION, run.spec.key, found["recommendation_id"]),
            "model_id": model.identity.model_id,
            "concept_id": concept.concept_id,
            "variant": variant.what,
            "spec_key": run.spec.key,
            "recommendation_id": found["recommendation_id"],
        }
        run.store.append("stability", [row])
        rows.append({"model": model.name, "concept": concept.name, "variant": variant.what, **_shown(found)})
        run.notify(f"variants of {concept.name}", done + 1, len(every))
    return rows


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {name: ", ".join(map(str, found[name])) if name == "layers" else found[name] for name in COLUMNS}


def swing(doses: Sequence[float]) -> float:
    """The largest dose over the smallest; 1 where all doses are equal."""
    return max(doses) / min(doses)
