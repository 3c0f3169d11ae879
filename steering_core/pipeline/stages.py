"""The stages of a run, each a plain function over the store that counts what it did, and their one list, `Stages`."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from steering_core.activations.extract import extract
from steering_core.candidates.answers import NeutralAnswer, neutral_answers
from steering_core.candidates.cell import NONE, Cell, mirrored, prompted, with_prompt
from steering_core.candidates.generations import generate
from steering_core.concepts import Concept, Split
from steering_core.evaluation.chance import Chance, ChanceSearch, Draw, Searched, chance_of
from steering_core.evaluation.choice import Choice, chosen_of
from steering_core.evaluation.damage import Damage
from steering_core.evaluation.forms import Forms
from steering_core.evaluation.recommendations import Evidence, OtherChanges, recommend
from steering_core.evaluation.search import Search, SearchData, Shortlist
from steering_core.evaluation.side_effects import Matrix, side_effects
from steering_core.foundation.counting import Done
from steering_core.models import Model
from steering_core.models.folders import commit_of
from steering_core.pipeline.rows import store_items, store_pairs
from steering_core.pipeline.wanted import (
    answered,
    bounds,
    capability_sets,
    extracted_layers,
    grid_layers,
    held_out,
    library_vectors,
    neutral,
    trained_layers,
)
from steering_core.runs import Run
from steering_core.scores.capabilities import measure_sets
from steering_core.scores.measure import measure_answers, measure_items, measure_neutral, measure_texts
from steering_core.scores.metrics import Setup
from steering_core.scores.projections import project_texts
from steering_core.scores.summary import ODD, Scores, cell_values, summarise
from steering_core.scores.texts import text_setup
from steering_core.statistics.metric_names import REPORTED
from steering_core.store import Row, Store
from steering_core.vectors.derive import derive
from steering_core.vectors.lens import assess_lens
from steering_core.vectors.methods import is_trained, method_name
from steering_core.vectors.permuted import permuted_vectors
from steering_core.vectors.quality import Resampling, assess
from steering_core.vectors.relabelling import Relabellings
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.training.fits import train
from steering_core.vectors.vector import Vector


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

    Raises LayerNotFound, for the grid's layers as well, and VectorNotFound for a name of the library, before anything
    is computed.
    """
    layers = extracted_layers(run.spec, model)
    library_vectors(run.spec, run.store, model)
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
        at = trained_layers(spec, run.store, model, concept, trained)
        did += train(run.store, model, concept, at, position, wanted.controls, run.progress("train vectors"))
    if wanted.quality_draws:
        assess(run.store, model.identity, did.ids, Resampling(wanted.quality_draws))
        assess_lens(run.store, model, concept, did.ids)
    run.count("vectors", did)
    return vectors_by_id(run.store, did.ids)


def search_cells(
    run: Run, model: Model, concept: Concept, cells: Sequence[Cell], vectors: Sequence[Vector]
) -> Shortlist:
    """The candidates that deserve texts, with their controls: found on validation items by teacher forcing alone."""
    wanted, keep = run.spec.scores, run.spec.generations.shortlist
    data = SearchData(
        held_out(concept, "validation", wanted),
        neutral("validation", wanted),
        neutral_answers_of(run, model, concept, "validation"),
        wanted.metrics,
        bounds(run.spec),
        run.spec.vectors.controls,
    )
    search = Search(Setup(model, concept), run.store, data, run.progress("search the grid"))
    found = search.whole_grid(cells, vectors) if keep == "all" else search.halving(cells, vectors, keep)
    run.count("scores", found.measured)
    return found


def neutral_answers_of(run: Run, model: Model, concept: Concept, split: Split) -> list[NeutralAnswer]:
    """The untouched model's answers on which damage is measured; none where it is not."""
    if "damage" not in run.spec.scores.metrics:
        return []
    texts, did = answered(split, run.spec.scores), Done()
    found = neutral_answers(model, run.store, concept, texts, run.spec.generations, did.work)
    run.count("generations", did)
    return found


def generate_samples(run: Run, model: Model, concept: Concept, cells: Sequence[Cell], split: Split) -> list[str]:
    """A text for every cell and open prompt of a split; their ids."""
    did = generate(model, run.store, concept, cells, run.spec.generations, split, run.progress("generate samples"))
    run.count("generations", did)
    return did.ids


def score_shortlist(
    run: Run, model: Model, concept: Concept, found: Shortlist, generation_ids: Sequence[str]
) -> Scores:
    """The validation scores of every cell that the search tried, with those of the shortlist's texts.

    The texts' measurements are among the shortlist's afterwards.
    """
    spec = run.spec.scores
    setup = text_setup(model, run.store, concept, spec, found.cells)
    notify = run.progress("score texts")
    metrics = [metric for metric in spec.measured if metric not in REPORTED]
    texts = measure_texts(setup, run.store, generation_ids, "validation", metrics, notify)
    run.count("scores", texts)
    found.measured += texts
    return summarise(run.store, found.everything, found.measured.ids, "validation")


def choose_candidate(run: Run, model: Model, concept: Concept, found: Shortlist, vectors: Sequence[Vector]) -> Choice:
    """The shortlist's best on validation at its dose, and what it meets on test: alpha 0, its mirror, its controls."""
    damage = Damage(Setup(model, concept), run.store, neutral_answers_of(run, model, concept, "validation"))
    choice = chosen_of(found, damage, bounds(run.spec), run.spec, vectors)
    prompts = prompted(model.identity, concept, choice.trial.chosen.sign > 0)
    both = with_prompt(choice.trial.chosen, prompts)
    trial = replace(choice.trial, cells=[*choice.trial.cells, *prompts, *both])
    run.store.append("vectors", [vector.row() for cell in trial.cells for vector in cell.vectors])
    run.count("scores", damage.measured)
    return replace(choice, trial=trial)


def score_trial(run: Run, model: Model, concept: Concept, choice: Choice, generation_ids: Sequence[str]) -> Scores:
    """The test scores of the chosen candidate and of all that it is compared with."""
    spec, trial = run.spec.scores, choice.trial
    setup = text_setup(model, run.store, concept, spec, trial.cells)
    to = (setup, run.store, trial.cells)
    did = measure_items(*to, held_out(concept, "test", spec), "test", spec.metrics, run.progress("score on test"))
    notify = run.progress("score neutral prompts")
    did += measure_neutral(*to, neutral("test", spec), "test", spec.metrics, notify)
    shown = [cell for cell in trial.cells if cell.control in (None, NONE)]
    answers, notify = neutral_answers_of(run, model, concept, "test"), run.progress("score neutral answers")
    did += measure_answers(setup, run.store, shown, answers, "test", spec.metrics, notify)
    did += measure_texts(setup, run.store, generation_ids, "test", spec.measured, run.progress("score texts"))
    project_texts(setup, run.store, trial, generation_ids)
    run.count("scores", did)
    return summarise(run.store, trial.cells, did.ids, "test", corrected=False)


def search_chance(
    run: Run,
    model: Model,
    concept: Concept,
    choice: Choice,
    vectors: Sequence[Vector],
    library: Sequence[Vector],
    scores: Scores,
) -> Chance | None:
    """What the same search finds among directions that mean nothing, and the candidate's p-value.

    None without a direction.
    """
    spec = run.spec
    damage = Damage(Setup(model, concept), run.store, neutral_answers_of(run, model, concept, "validation"))
    items = held_out(concept, "validation", spec.scores), held_out(concept, "test", spec.scores)
    search = ChanceSearch(choice.trial.chosen, damage, *items, run.progress("search among permuted labels"))
    searched = Searched(vectors, library, partial(_permuted, run, model, concept), Relabellings.of(concept))
    found = chance_of(search, searched, scores, spec.scores.draws)
    run.count("scores", search.measured)
    return found


def _permuted(run: Run, model: Model, concept: Concept, methods: Sequence[str], draws: int) -> list[Draw]:
    layers, position = grid_layers(run.spec, model), run.spec.activations.position
    return list(permuted_vectors(run.store, model.identity, concept, methods, layers, position, draws))


def measure_side_effects(run: Run, model: Model, concept: Concept, choice: Choice) -> Matrix:
    """What the chosen candidate and its chance controls do to the items of the spec's other concepts."""
    others = [one for one in run.side_concepts if one.name != concept.name]
    asked = {one.concept_id: (one, held_out(one, "test", run.spec.scores)) for one in (concept, *others)}
    asked = {concept_id: both for concept_id, both in asked.items() if both[1]}
    if not others or concept.concept_id not in asked or choice.trial.chosen.steering is None:
        return Matrix()
    store_items(run.store, others)
    matrix, did = side_effects(model, run.store, choice.trial, asked, run.progress("measure side effects"))
    run.count("side_effects", did)
    return matrix


def measure_capabilities(run: Run, model: Model, concept: Concept, choice: Choice) -> list[Row]:
    """What the chosen candidate does to each capability set that the spec asks for, as rows of `capabilities`."""
    sets, chosen = capability_sets(run.spec), choice.trial.chosen
    if not sets or chosen.steering is None:
        return []
    found = measure_sets(model, run.store, [chosen], sets, run.progress("measure capabilities"))
    run.count("scores", found.did)
    return found.rows


def recommend_vector(
    run: Run,
    model: Model,
    concept: Concept,
    choice: Choice,
    scores: Scores,
    chance: Chance | None,
    others: OtherChanges,
) -> dict[str, Any]:
    """The recommendation's row, from the scores on test, what chance finds, and what else the candidate changes."""
    spec, forms = run.spec, _forms(run, model, concept, choice)
    evidence = Evidence(choice, scores, chance, forms, bounds(spec), others, spec.scores.max_drop)
    return recommend(run.store, evidence, run.spec.key)


def _forms(run: Run, model: Model, concept: Concept, choice: Choice) -> Forms:
    """The chosen candidate's effects on test items by the answer that matches."""
    chosen, items = choice.trial.chosen, held_out(concept, "test", run.spec.scores)
    cells = [choice.trial.cells[0], chosen, *mirrored(chosen)]
    did = measure_items(Setup(model, concept), run.store, cells, items, "test", ["propensity"])
    values = cell_values(run.store, cells, did.ids)[1]
    effects = values.get(ODD) or values.get("effect", {})
    return Forms.of(items, {item_id: chosen.sign * effect for item_id, effect in effects.items()})


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
    choose_candidate: Callable[[Run, Model, Concept, Shortlist, Sequence[Vector]], Choice]
    score_trial: Callable[[Run, Model, Concept, Choice, Sequence[str]], Scores]
    search_chance: Callable[[Run, Model, Concept, Choice, Sequence[Vector], Sequence[Vector], Scores], Chance | None]
    measure_side_effects: Callable[[Run, Model, Concept, Choice], Matrix]
    measure_capabilities: Callable[[Run, Model, Concept, Choice], list[Row]]
    recommend_vector: Callable[[Run, Model, Concept, Choice, Scores, Chance | None, OtherChanges], dict[str, Any]]


PLAIN = Stages(
    load_model=load_model,
    extract_activations=extract_activations,
    derive_vectors=derive_vectors,
    search_cells=search_cells,
    generate_samples=generate_samples,
    score_shortlist=score_shortlist,
    choose_candidate=choose_candidate,
    score_trial=score_trial,
    search_chance=search_chance,
    measure_side_effects=measure_side_effects,
    measure_capabilities=measure_capabilities,
    recommend_vector=recommend_vector,
)
