"""What a spec asks of one model and one concept: layers, candidates, held-out items, neutral prompts, bounds."""

from collections.abc import Sequence
from typing import Literal

from steering_core.candidates.cell import Cell, unsteered
from steering_core.candidates.grid import Strengths, candidates
from steering_core.capabilities import CapabilitySet, available_sets, load_sets
from steering_core.concepts import Concept, Item, Split, load_concept
from steering_core.concepts.neutral import neutral_prompts
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.side_effects import items_of_each
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import ConceptError, VectorError
from steering_core.foundation.validation import counted
from steering_core.models import Model
from steering_core.prompts import item_prompts
from steering_core.spec import ScoresSpec, Spec
from steering_core.store import Store
from steering_core.vectors.keyed import by_key
from steering_core.vectors.library import named, own_first
from steering_core.vectors.methods import TRAINED, is_joint, is_trained, method_name
from steering_core.vectors.training.fits import best_layers
from steering_core.vectors.vector import Vector

AUTO_LAYERS = (0.3, 0.4, 0.5, 0.6, 0.7)
AUTO_DOSES = (0.15, 0.3, 0.5)
ALONE: Literal["shipped"] | tuple[str, ...] = "shipped"  # side effects of a spec with a single concept are on these
TRAINED_LAYERS = 2  # of a trained method, at most, where the spec names none
JOINT_LAYERS = 5  # of a joint method, at most, where the spec names none


def extracted_layers(spec: Spec, model: Model) -> list[int]:
    """The layers whose activations are extracted: those asked for, those of the grid and those of `train_layers`.

    Raises LayerNotFound.
    """
    wanted, trained = spec.activations.layers, spec.vectors.train_layers
    asked = model.checked_layers(None if wanted == "all" else list(wanted))
    trained_at = model.checked_layers([] if trained == "auto" else list(trained))
    return sorted({*asked, *grid_layers(spec, model), *trained_at})


def grid_layers(spec: Spec, model: Model) -> list[int]:
    """The layers of the grid: those asked for, or five in the middle of the model, where steering works best.

    `all` are those whose activations the spec asks for. Raises LayerNotFound.
    """
    wanted, extracted = spec.generations.layers, spec.activations.layers
    n = model.identity.n_layers
    if wanted == "auto":
        return sorted({min(n - 1, round(share * n)) for share in AUTO_LAYERS})
    if wanted == "all":
        return model.checked_layers(None if extracted == "all" else list(extracted))
    return model.checked_layers(list(wanted))


def trained_layers(
    spec: Spec, store: Store, model: Model, concept: Concept, methods: Sequence[str]
) -> dict[str, list[int]]:
    """The layers that each of the trained `methods` trains at: those that the spec names, or some of the grid's.

    Of the grid's a joint method takes `JOINT_LAYERS`, and another one the `TRAINED_LAYERS` at which pairs are best
    separated.
    """
    wanted, grid = spec.vectors.train_layers, grid_layers(spec, model)
    if wanted != "auto":
        return dict.fromkeys(methods, model.checked_layers(list(wanted)))
    best, position = list[int](), spec.activations.position
    if not all(map(is_joint, methods)):
        best = best_layers(store, model, concept, grid, position, TRAINED_LAYERS)
    return {method: _spread(grid, JOINT_LAYERS) if is_joint(method) else best for method in methods}


def _spread(layers: Sequence[int], n: int) -> list[int]:
    """At most `n` of the layers, ascending, as evenly over all as can be."""
    if len(layers) <= n:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (n - 1))] for i in range(n)]


def training_passes(spec: Spec) -> int:
    """Passes over their training pairs, forwards and back, that a model's concepts take at most, controls included."""
    wanted = spec.vectors
    layers = TRAINED_LAYERS if wanted.train_layers == "auto" else len(set(wanted.train_layers))
    methods = [TRAINED[name] for name in map(method_name, wanted.methods) if is_trained(name)]
    each = 1 + wanted.controls  # the shuffled ones are trained, the random ones are not
    return len(spec.concepts) * sum(m.shared + (1 if m.joint else layers) * each * m.passes for m in methods)


def side_effect_tokens(spec: Spec, model: Model, concepts: Sequence[Concept]) -> int:
    """About how many tokens a model reads for the side effects on all of a spec's concepts, where the store has none.

    Each item's prompt is read once, and its two answers under every intervention that stands trial.
    """
    steered, total = 2 + 2 * spec.vectors.controls, 0  # the candidate, none, and controls of two kinds
    beside = side_concepts(spec, concepts)
    for concept in concepts:
        others = [one for one in beside if one.name != concept.name]
        each = items_of_each(1 + len(others))
        for other in others:
            for item in held_out(other, "test", spec.scores)[:each]:
                sides = item_prompts(model, other, item)
                start = sides[0].response_start
                total += start + steered * sum(len(side.tokens) - start for side in sides)
    return total


def library_vectors(spec: Spec, store: Store, model: Model, derived: Sequence[Vector] = ()) -> list[Vector]:
    """The vectors of the library that the spec names, each once, at all layers of a name, but for those `derived`.

    Raises VectorNotFound, VectorAmbiguous for a name with several vectors at one layer, and VectorError for a control.
    """
    found: dict[str, Vector] = {}
    own = {vector.vector_id for vector in derived}
    for name in spec.vectors.library:
        for vector in named(store, name, model.identity, layers="all"):
            if vector.control is not None:
                raise VectorError(
                    f"{name} is a control ({vector.control}): vectors.library names vectors with a meaning"
                )
            found[vector.vector_id] = vector
    return [vector for key, vector in found.items() if key not in own]


def candidate_cells(
    spec: Spec, store: Store, model: Model, concept: Concept, vectors: Sequence[Vector], library: Sequence[Vector]
) -> list[Cell]:
    """The grid: the unsteered model, every vector at every strength, derived or of the library, and expressions.

    Raises InterventionError and VectorError for an expression that does not fit the model or names no vector.
    """
    grid, identity = spec.generations, model.identity
    strengths = Strengths(grid.doses or (() if grid.alphas else AUTO_DOSES), grid.alphas or ())
    cells = candidates(identity, concept, vectors, strengths, grid.phase)
    for vector in library:  # each by itself, of a joint fit or not
        cells += candidates(identity, concept, [vector], strengths, grid.phase)
    find = own_first(store, identity, concept.name, vectors)
    said = [by_key(expression, find, identity.n_layers) for expression in grid.expressions]
    cells += [Cell(identity.model_id, concept.concept_id, steering, found, as_written=True) for steering, found in said]
    return [unsteered(identity, concept), *cells]


def held_out(concept: Concept, split: Split, wanted: ScoresSpec) -> list[Item]:
    """The held-out items of a split, at most as many as wanted, in an order that content alone fixes."""
    return sorted(concept.items_in(split), key=lambda item: item.item_id)[: wanted.items]


def refuse_without_choice(concept: Concept, wanted: ScoresSpec) -> None:
    """Raise ConceptError where all of a concept's items are in the test split: they would try what none has chosen.

    A concept without any items has vectors and texts, and no verdict.
    """
    if concept.items_in("test"):
        refuse_without_validation(concept, wanted)


def refuse_without_validation(concept: Concept, wanted: ScoresSpec) -> None:
    """Raise ConceptError for a concept without validation items."""
    if not held_out(concept, "validation", wanted):
        n = len(concept.items_in("test"))
        has = f" ({counted(n, 'item')} {'is' if n == 1 else 'are'} in the test split)" if n else ""
        raise ConceptError(
            f"{concept.name} has no held-out items in the validation split{has}, and a vector is "
            "chosen by its effect on them: add items there, or leave out `split` and half of them are dealt to it"
        )


def side_concepts(spec: Spec, read: Sequence[Concept]) -> list[Concept]:
    """The concepts on whose items a spec's recommendations are measured besides their own.

    `read` are the spec's own concepts. Raises ConceptError for another one that cannot be read.
    """
    wanted = spec.scores.side_effects
    if wanted == "auto" and len(spec.concepts) > 1:
        return list(read)
    wanted = ALONE if wanted == "auto" else wanted
    named = {"none": [], "shipped": sorted(data_files("concepts"))}[wanted] if isinstance(wanted, str) else wanted
    return [load_concept(name) for name in named]


def neutral(split: Split, wanted: ScoresSpec) -> list[str]:
    """The neutral prompts of a split: every other one, so that what is chosen on one half is reported on the other."""
    return _half_of_neutral(split)[: wanted.neutral]


def answered(split: Split, wanted: ScoresSpec) -> list[str]:
    """The neutral prompts of a split on whose answers damage is measured: every other one, as in `neutral`."""
    return _half_of_neutral(split)[: wanted.answers]


def _half_of_neutral(split: Split) -> list[str]:
    return list(neutral_prompts()[0 if split == "validation" else 1 :: 2])


def bounds(spec: Spec) -> Bounds:
    """The damage that a spec allows."""
    return Bounds(spec.scores.max_perplexity_ratio, spec.scores.max_kl)


def capability_sets(spec: Spec) -> list[CapabilitySet]:
    """The capability sets that a spec asks for; none by default. Raises CapabilityError."""
    wanted = spec.scores.capabilities
    if wanted == "none":
        return []
    return load_sets(sorted(available_sets()) if wanted == "all" else wanted)
