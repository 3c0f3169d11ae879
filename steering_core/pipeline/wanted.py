"""What a spec asks of one model and one concept: layers, candidates, held-out items, neutral prompts, bounds."""

from collections.abc import Sequence

from steering_core.candidates.cell import Cell, Strengths, candidates, unsteered
from steering_core.concepts import Concept, Item, Split
from steering_core.concepts.neutral import neutral_prompts
from steering_core.evaluation.bounds import Bounds
from steering_core.models import Model
from steering_core.spec import ScoresSpec, Spec
from steering_core.store import Store
from steering_core.vectors.library import own_first
from steering_core.vectors.methods import TRAINED, is_trained, method_name
from steering_core.vectors.resolve import by_key
from steering_core.vectors.train import best_layers
from steering_core.vectors.vector import Vector

AUTO_LAYERS = (0.3, 0.4, 0.5, 0.6, 0.7)
AUTO_DOSES = (0.15, 0.3, 0.5)
TRAINED_LAYERS = 2  # at most, where the spec does not say which


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


def trained_layers(spec: Spec, store: Store, model: Model, concept: Concept) -> list[int]:
    """The layers that trained methods train at: those asked for, or the grid's best by its pairs' separation."""
    wanted = spec.vectors.train_layers
    if wanted != "auto":
        return model.checked_layers(list(wanted))
    return best_layers(store, model, concept, grid_layers(spec, model), spec.activations.position, TRAINED_LAYERS)


def training_passes(spec: Spec) -> int:
    """Passes over their training pairs, forwards and back, that a model's concepts take at most, controls included."""
    wanted = spec.vectors
    layers = TRAINED_LAYERS if wanted.train_layers == "auto" else len(set(wanted.train_layers))
    methods = [TRAINED[name] for name in map(method_name, wanted.methods) if is_trained(name)]
    vectors = layers * (1 + wanted.controls)  # the shuffled ones are trained, the random ones are not
    return len(spec.concepts) * sum(m.shared + vectors * m.passes for m in methods)


def candidate_cells(spec: Spec, store: Store, model: Model, concept: Concept, vectors: Sequence[Vector]) -> list[Cell]:
    """The grid: the unsteered model, then every vector at every strength, then the spec's expressions.

    Raises InterventionError and VectorError for an expression that does not fit the model or names no vector.
    """
    grid, identity = spec.generations, model.identity
    strengths = Strengths(grid.doses or (() if grid.alphas else AUTO_DOSES), grid.alphas or ())
    cells = candidates(identity, concept, vectors, strengths, grid.phase)
    find = own_first(store, identity, concept.name, vectors)
    said = [by_key(expression, find, identity.n_layers) for expression in grid.expressions]
    cells += [Cell(identity.model_id, concept.concept_id, steering, found) for steering, found in said]
    return [unsteered(identity, concept), *cells]


def held_out(concept: Concept, split: Split, wanted: ScoresSpec) -> list[Item]:
    """The held-out items of a split, at most as many as wanted, in an order that content alone fixes."""
    return sorted(concept.items_in(split), key=lambda item: item.item_id)[: wanted.items]


def neutral(split: Split, wanted: ScoresSpec) -> list[str]:
    """The neutral prompts of a split: every other one, so that what is chosen on one half is reported on the other."""
    return list(neutral_prompts()[0 if split == "validation" else 1 :: 2][: wanted.neutral])


def answered(split: Split, wanted: ScoresSpec) -> list[str]:
    """The neutral prompts of a split whose answers damage is measured on: every other one, as `neutral`."""
    return list(neutral_prompts()[0 if split == "validation" else 1 :: 2][: wanted.answers])


def bounds(spec: Spec) -> Bounds:
    """The damage that a spec allows."""
    return Bounds(spec.scores.max_perplexity_ratio, spec.scores.max_kl)
