"""The pipeline: a spec's stages in their order, each a plain function over the store.

`run` executes a whole spec in this process; `flows/` calls the same stage functions as Prefect tasks.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steering_core.activations.extract import extract
from steering_core.candidates.cell import (
    Cell,
    Strengths,
    Trial,
    candidates,
    mirrored,
    prompted,
    unsteered,
)
from steering_core.candidates.chance import chance_controls
from steering_core.candidates.generations import generate
from steering_core.concepts import SIDES, Concept, Item, Side, Split, load_concept
from steering_core.concepts.library import refuse_namesakes
from steering_core.concepts.neutral import neutral_prompts
from steering_core.evaluation.recommendations import Bounds, choose, recommend
from steering_core.evaluation.search import Ground, Search, Shortlist
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.user_files import is_file
from steering_core.foundation.validation import shown
from steering_core.models import Model
from steering_core.models.folders import commit_of
from steering_core.prompts import Prompt, pair_prompt
from steering_core.runs import Counts, Run
from steering_core.scores.measure import measure_items, measure_neutral, measure_texts
from steering_core.scores.metrics import Bench
from steering_core.scores.projections import project_texts
from steering_core.scores.summary import Scores, summarise
from steering_core.scores.texts import text_bench
from steering_core.spec import ScoresSpec, Spec
from steering_core.store import Store
from steering_core.vectors.derive import derive
from steering_core.vectors.library import own_first
from steering_core.vectors.methods import method_name
from steering_core.vectors.quality import Resampling, assess
from steering_core.vectors.resolve import by_key
from steering_core.vectors.vector import Vector, vectors_by_id

log = logging.getLogger(__name__)
Notify = Callable[[str, int, int], None]
Load = Callable[[Run, str], Model]
Extract = Callable[[Run, Model, Sequence[Concept]], Any]
Discover = Callable[[Run, Model, Concept], dict[str, Any]]
AUTO_LAYERS = (0.3, 0.4, 0.5, 0.6, 0.7)
AUTO_DOSES = (0.15, 0.3, 0.5)


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


def extract_activations(run: Run, model: Model, concepts: Sequence[Concept]) -> Counts:
    """Have the store hold the activations of every pair of `concepts`, each prompt once.

    Raises LayerNotFound, for the grid's layers as well, before anything is computed.
    """
    layers = extracted_layers(run.spec, model)
    prompts = store_pairs(run.store, model, concepts)
    wanted = run.spec.activations
    notify = run.progress("extract activations")
    did = extract(model, run.store, prompts, layers, wanted.position, notify)
    return run.count("activations", did)


def extracted_layers(spec: Spec, model: Model) -> list[int]:
    """The layers whose activations are extracted. Raises LayerNotFound, for the grid's layers as well."""
    grid_layers(spec, model)
    wanted = spec.activations.layers
    return model.checked_layers(None if wanted == "all" else list(wanted))


def store_pairs(store: Store, model: Model, concepts: Sequence[Concept]) -> list[Prompt]:
    """Have the store hold `concepts` with their pairs as `model` reads them; the prompts, each once."""
    prompts: dict[str, Prompt] = {}
    rows: list[dict[str, Any]] = []
    for concept in concepts:
        for ordinal, pair in enumerate(concept.pairs):
            for side in SIDES:
                prompt = pair_prompt(model, concept, pair, side)
                prompts[prompt.prompt_id] = prompt
                rows.append(_pair_row(concept, ordinal, side, prompt))
    store.append("concepts", [_concept_row(concept) for concept in concepts])
    store.append("prompts", [prompt_row(prompt) for prompt in prompts.values()])
    store.append("pairs", rows)
    store.append("items", [_item_row(concept, item) for concept in concepts for item in concept.items])
    return list(prompts.values())


def _pair_row(concept: Concept, ordinal: int, side: Side, prompt: Prompt) -> dict[str, Any]:
    pair_id = concept.pairs[ordinal].pair_id
    return {
        "concept_id": concept.concept_id,
        "tokenizer_id": prompt.tokenizer_id,
        "pair_id": pair_id,
        "ordinal": ordinal,
        "side": side,
        "split": concept.splits[pair_id],
        "prompt_id": prompt.prompt_id,
    }


def _item_row(concept: Concept, item: Item) -> dict[str, Any]:
    return {
        "concept_id": concept.concept_id,
        "item_id": item.item_id,
        "split": concept.item_splits[item.item_id],
        "prompt": item.prompt,
        "matching": item.matching,
        "not_matching": item.not_matching,
    }


def _concept_row(concept: Concept) -> dict[str, Any]:
    return {
        "concept_id": concept.concept_id,
        "name": concept.name,
        "description": concept.description,
        "chat": concept.chat,
        "n_pairs": len(concept.pairs),
        "n_prompts": len(concept.prompts),
        "n_items": len(concept.items),
        "definition": concept.model_dump_json(exclude={"card"}),
    }


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a row of the store's table."""
    return {
        "prompt_id": prompt.prompt_id,
        "tokenizer_id": prompt.tokenizer_id,
        "text": prompt.text,
        "tokens": list(prompt.tokens),
        "n_tokens": len(prompt.tokens),
        "response_start": prompt.response_start,
    }


def derive_vectors(run: Run, model: Model, concept: Concept) -> tuple[list[Vector], Counts]:
    """Every method's vector at every layer of the grid, with its controls and its qualities."""
    spec, layers = run.spec, grid_layers(run.spec, model)
    wanted, position = spec.vectors, spec.activations.position
    methods = [method_name(name) for name in wanted.methods]
    did = derive(run.store, model.identity, concept, methods, layers, position, wanted.controls)
    if wanted.quality_draws:
        assess(run.store, model.identity, did.ids, Resampling(wanted.quality_draws))
    return vectors_by_id(run.store, did.ids), run.count("vectors", did)


def grid_layers(spec: Spec, model: Model) -> list[int]:
    """The layers of the grid: those asked for, all, or five in the middle of the model, where steering works best."""
    wanted = spec.generations.layers
    n = model.identity.n_layers
    if wanted == "auto":
        return sorted({min(n - 1, round(share * n)) for share in AUTO_LAYERS})
    return model.checked_layers(None if wanted == "all" else list(wanted))


def candidate_cells(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]) -> list[Cell]:
    """The grid: the unsteered model, then every vector at every strength, then the spec's expressions.

    Raises InterventionError and VectorError for an expression that does not fit the model or names no vector.
    """
    grid, identity = run.spec.generations, model.identity
    strengths = Strengths(grid.doses or (() if grid.alphas else AUTO_DOSES), grid.alphas or ())
    cells = candidates(identity, concept, vectors, strengths, grid.phase)
    find = own_first(run.store, identity, concept.name, vectors)
    said = [by_key(expression, find, identity.n_layers) for expression in grid.expressions]
    cells += [Cell(identity.model_id, concept.concept_id, steering, found) for steering, found in said]
    return [unsteered(identity, concept), *cells]


def search_cells(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], vectors: Sequence[Vector]
) -> tuple[Shortlist, Counts]:
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
    return found, run.count("generations", found.generated) + run.count("scores", found.measured)


def held_out(concept: Concept, split: Split, wanted: ScoresSpec) -> list[Item]:
    """The held-out items of a split, at most as many as wanted, in an order that content alone fixes."""
    return sorted(concept.items_in(split), key=lambda item: item.item_id)[: wanted.items]


def neutral(split: Split, wanted: ScoresSpec) -> list[str]:
    """The neutral prompts of a split: every other one, so that what is chosen on one half is reported on the other."""
    return list(neutral_prompts()[0 if split == "validation" else 1 :: 2][: wanted.neutral])


def generate_samples(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], split: Split
) -> tuple[list[str], Counts]:
    """A text for every cell and open prompt of a split; their ids."""
    did = generate(model, run.store, concept, cells, run.spec.generations, split, run.progress("generate samples"))
    return did.ids, run.count("generations", did)


def score_shortlist(
    run: Run, model: Model, concept: Concept, found: Shortlist, generation_ids: Sequence[str]
) -> tuple[Scores, Counts]:
    """The validation scores of every cell that the search tried, with those of the shortlist's texts."""
    spec = run.spec.scores
    bench = text_bench(model, run.store, concept, spec, found.cells)
    notify = run.progress("score texts")
    texts = measure_texts(bench, run.store, generation_ids, "validation", spec.measured, notify)
    ids = [*found.measured.ids, *texts.ids]
    return summarise(run.store, found.everything, ids, "validation", spec.bootstrap, spec.seed), run.count(
        "scores", texts
    )


def score_trial(
    run: Run, model: Model, concept: Concept, trial: Trial, generation_ids: Sequence[str]
) -> tuple[Scores, Counts]:
    """The test scores of the chosen candidate and of all that it is compared with."""
    spec = run.spec.scores
    bench = text_bench(model, run.store, concept, spec, trial.cells)
    to = (bench, run.store, trial.cells)
    did = measure_items(*to, held_out(concept, "test", spec), "test", spec.metrics, run.progress("score on test"))
    did += measure_neutral(*to, neutral("test", spec), "test", spec.metrics)
    did += measure_texts(bench, run.store, generation_ids, "test", spec.measured, run.progress("score texts"))
    project_texts(bench, run.store, trial, generation_ids)
    ids = did.ids
    scores = summarise(run.store, trial.cells, ids, "test", spec.bootstrap, spec.seed, trial.comparisons)
    return scores, run.count("scores", did)


def recommend_vector(run: Run, trial: Trial, scores: Scores) -> dict[str, Any]:
    """The recommendation's row, from the scores on test."""
    return recommend(run.store, trial.chosen, trial.cells, scores, bounds(run.spec), run.spec.key)


def bounds(spec: Spec) -> Bounds:
    """The damage that a spec allows."""
    return Bounds(spec.scores.max_perplexity_ratio, spec.scores.max_kl)


def discover(run: Run, model: Model, concept: Concept) -> dict[str, Any]:
    """Vectors, search, choice on validation and trial on test for one concept whose activations are stored."""
    vectors, _ = derive_vectors(run, model, concept)
    cells = candidate_cells(run, model, concept, vectors)
    found, _ = search_cells(run, model, concept, cells, vectors)
    texts, _ = generate_samples(run, model, concept, found.cells, "validation")
    scores, _ = score_shortlist(run, model, concept, found, texts)
    trial = trial_of(run, model, concept, found, vectors, scores)
    texts, _ = generate_samples(run, model, concept, trial.cells, "test")
    on_test, _ = score_trial(run, model, concept, trial, texts)
    return recommend_vector(run, trial, on_test)


def trial_of(
    run: Run, model: Model, concept: Concept, found: Shortlist, vectors: Sequence[Vector], scores: Scores
) -> Trial:
    """The shortlist's best on validation, and what it meets on test: alpha 0, its mirror image, its controls."""
    unsteered, *candidates = found.cells
    chosen = choose(candidates, scores, bounds(run.spec))
    rivals = [*chance_controls(chosen, vectors), *prompted(model.identity, concept, chosen.way > 0)]
    return Trial(chosen, [unsteered, chosen, *mirrored(chosen), *rivals], len(found.tried) - 1)


def run(spec: Spec, store: Store, notify: Notify = lambda what, done, total: None) -> dict[str, Any]:
    """Execute a whole spec; the run's report, as `steer run --json` prints it. Raises RunIncomplete at its end."""
    with Run(spec, store, notify) as this:
        discover_all(this, load_model, extract_activations, discover)
        report = this.finish()
    this.raise_failures(report)
    return report


def discover_all(run: Run, load: Load, extract: Extract, discover: Discover) -> None:
    """A recommendation for every (model, concept) cell of a run, or the error that it failed with.

    The three stages are given, so that flows can have them run as tasks.
    """

    def cell(run: Run, model: Model, concept: Concept) -> None:
        with run.cell(model.name, concept.name) as found:
            found.append(discover(run, model, concept))

    each_cell(run, load, extract, cell)


def each_cell(run: Run, load: Load, extract: Extract, do: Callable[[Run, Model, Concept], None]) -> None:
    """Every (model, concept) cell of a run in turn, one model open at a time; one that fails fails alone."""
    concepts = _read_concepts(run)
    for name in run.spec.models if concepts else ():
        with run.guard(name, [concept.name for concept in concepts]):
            model = load(run, name)
            try:
                for concept in _extracted(run, model, concepts, extract):
                    with run.guard(name, [concept.name]):
                        do(run, model, concept)
            finally:
                model.close()


def _read_concepts(run: Run) -> list[Concept]:
    """The concepts that can be read; the cells of the others have failed. Raises ConceptError for two of one name."""
    concepts: list[Concept] = []
    for name in run.spec.concepts:
        try:
            concepts.append(load_concept(name))
        except ConceptError as error:
            for model in run.spec.models:
                with run.guard(model, [Path(name).stem if is_file(name) else shown(name)]):
                    raise error
    refuse_namesakes(concepts)
    return concepts


def _extracted(run: Run, model: Model, concepts: Sequence[Concept], extract: Extract) -> Sequence[Concept]:
    """Concepts whose activations are stored: all at once, or one by one where that fails, so that one fails alone."""
    if len(concepts) > 1:
        try:
            extract(run, model, concepts)
        except Exception as error:  # noqa: BLE001  (which concept it was shows below)
            log.warning("extraction failed (%s): trying concept by concept", error)
        else:
            return concepts
    ready: list[Concept] = []
    for concept in concepts:
        with run.guard(model.name, [concept.name]):
            extract(run, model, [concept])
            ready.append(concept)
    return ready
