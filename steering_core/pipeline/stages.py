"""The stages of a run, each a plain function over the store that counts what it did, and their one list, `Stages`."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.activations.extract import extract
from steering_core.candidates.cell import Cell, Trial
from steering_core.candidates.generations import generate
from steering_core.concepts import Concept, Split
from steering_core.evaluation.recommendations import recommend
from steering_core.evaluation.search import Ground, Search, Shortlist
from steering_core.models import Model
from steering_core.models.folders import commit_of
from steering_core.pipeline.rows import store_pairs
from steering_core.pipeline.wanted import bounds, extracted_layers, grid_layers, held_out, neutral, trained_layers
from steering_core.runs import Run
from steering_core.scores.measure import measure_items, measure_neutral, measure_texts
from steering_core.scores.metrics import Bench
from steering_core.scores.projections import project_texts
from steering_core.scores.summary import Scores, summarise
from steering_core.scores.texts import text_bench
from steering_core.store import Store
from steering_core.vectors.derive import derive
from steering_core.vectors.methods import is_trained, method_name
from steering_core.vectors.quality import Resampling, assess
from steering_core.vectors.train import train
from steering_core.vectors.vector import Vector, vectors_by_id


def load_model(run: Run, name: str) -> Model:
    """The model `name`, registered in the store; its weights load when a stage needs them."""
    model = registered(run.store, Model(name, run.spec.template, run.spec.memory_limit))
    if commit := commit_of(model.folder):
        run.commits[name] = commit
    return model


def registered(store: Store, model: Model) -> Model:
    """`model`, after the store knows it."""
    store.append("models", [dataclasses.asdict(model.identity)])
    return model


def extract_activations(run: Run, model: Model, concepts: Sequence[Concept]) -> None:
    """Have the store hold the activations of every pair of `concepts`, each prompt once.

    Raises LayerNotFound, for the grid's layers as well, before anything is computed.
    """
    layers = extracted_layers(run.spec, model)
    prompts = store_pairs(run.store, model, concepts)
    wanted = run.spec.activations
    notify = run.progress("extract activations")
    did = extract(model, run.store, prompts, layers, wanted.position, notify)
    run.count("activations", did)


def derive_vectors(run: Run, model: Model, concept: Concept) -> list[Vector]:
    """Every method's vector at every layer of the grid, with its controls and its qualities.

    Trained methods' are at the layers that the spec trains at, or the best of the grid's.
    """
    spec, layers = run.spec, grid_layers(run.spec, model)
    wanted, position = spec.vectors, spec.activations.position
    methods = [method_name(name) for name in wanted.methods]
    read, trained = ([m for m in methods if is_trained(m) == asks] for asks in (False, True))
    did = derive(run.store, model.identity, concept, read, layers, position, wanted.controls)
    if trained:
        at = trained_layers(spec, run.store, model, concept)
        did += train(run.store, model, concept, trained, at, position, wanted.controls, run.progress("train vectors"))
    if wanted.quality_draws:
        assess(run.store, model.identity, did.ids, Resampling(wanted.quality_draws))
    run.count("vectors", did)
    return vectors_by_id(run.store, did.ids)


def search_cells(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], vectors: Sequence[Vector]
) -> Shortlist:
    """The candidates that deserve texts, with their controls: found on validation items by teacher forcing alone."""
    wanted, keep = run.spec.scores, run.spec.generations.shortlist
    ground = Ground(
        held_out(concept, "validation", wanted),
        neutral("validation", wanted),
        wanted.metrics,
        bounds(run.spec),
        run.spec.generations,
    )
    search = Search(Bench(model, concept), run.store, ground, run.progress("search the grid"))
    found = search.whole_grid(cells, vectors) if keep == "all" else search.halving(cells, vectors, keep)
    run.count("generations", found.generated)
    run.count("scores", found.measured)
    return found


def generate_samples(run: Run, model: Model, concept: Concept, cells: Sequence[Cell], split: Split) -> list[str]:
    """A text for every cell and open prompt of a split; their ids."""
    did = generate(model, run.store, concept, cells, run.spec.generations, split, run.progress("generate samples"))
    run.count("generations", did)
    return did.ids


def score_shortlist(
    run: Run, model: Model, concept: Concept, found: Shortlist, generation_ids: Sequence[str]
) -> Scores:
    """The validation scores of every cell that the search tried, with those of the shortlist's texts."""
    spec = run.spec.scores
    bench = text_bench(model, run.store, concept, spec, found.cells)
    notify = run.progress("score texts")
    texts = measure_texts(bench, run.store, generation_ids, "validation", spec.measured, notify)
    run.count("scores", texts)
    ids = [*found.measured.ids, *texts.ids]
    return summarise(run.store, found.everything, ids, "validation", spec.bootstrap, spec.seed)


def score_trial(run: Run, model: Model, concept: Concept, trial: Trial, generation_ids: Sequence[str]) -> Scores:
    """The test scores of the chosen candidate and of all that it is compared with."""
    spec = run.spec.scores
    bench = text_bench(model, run.store, concept, spec, trial.cells)
    to = (bench, run.store, trial.cells)
    did = measure_items(*to, held_out(concept, "test", spec), "test", spec.metrics, run.progress("score on test"))
    did += measure_neutral(*to, neutral("test", spec), "test", spec.metrics)
    did += measure_texts(bench, run.store, generation_ids, "test", spec.measured, run.progress("score texts"))
    project_texts(bench, run.store, trial, generation_ids)
    run.count("scores", did)
    return summarise(run.store, trial.cells, did.ids, "test", spec.bootstrap, spec.seed, trial.comparisons)


def recommend_vector(run: Run, model: Model, concept: Concept, trial: Trial, scores: Scores) -> dict[str, Any]:
    """The recommendation's row, from the scores on test."""
    return recommend(run.store, trial.chosen, trial.cells, scores, bounds(run.spec), run.spec.key)


@dataclass(frozen=True)
class Stages:
    """Every stage of a run in its order, as a function to call; whoever orders them calls no other.

    `PLAIN` is the functions of this module. A flow hands in the same functions wrapped as tasks.
    """

    load_model: Callable[[Run, str], Model]
    extract_activations: Callable[[Run, Model, Sequence[Concept]], None]
    derive_vectors: Callable[[Run, Model, Concept], list[Vector]]
    search_cells: Callable[[Run, Model, Concept, Sequence[Cell], Sequence[Vector]], Shortlist]
    generate_samples: Callable[[Run, Model, Concept, Sequence[Cell], Split], list[str]]
    score_shortlist: Callable[[Run, Model, Concept, Shortlist, Sequence[str]], Scores]
    score_trial: Callable[[Run, Model, Concept, Trial, Sequence[str]], Scores]
    recommend_vector: Callable[[Run, Model, Concept, Trial, Scores], dict[str, Any]]


PLAIN = Stages(
    load_model=load_model,
    extract_activations=extract_activations,
    derive_vectors=derive_vectors,
    search_cells=search_cells,
    generate_samples=generate_samples,
    score_shortlist=score_shortlist,
    score_trial=score_trial,
    recommend_vector=recommend_vector,
)
