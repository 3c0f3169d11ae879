"""`steer plan SPEC.yaml`: what a spec's extraction and training would cost, before anything runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from steering_core.activations.capture import Reading
from steering_core.activations.forecast import Forecast, forecast
from steering_core.cli.options import FormatOption, StoreOption
from steering_core.cli.specs_in import allowed_spec
from steering_core.concepts.library import load_concepts
from steering_core.models import Model, open_model
from steering_core.pipeline.wanted import capability_sets, extracted_layers, side_effect_tokens, training_passes
from steering_core.prompts import Prompt, sided_prompt
from steering_core.reports.printing import Format, print_rows
from steering_core.scores.capabilities import tokens_of
from steering_core.spec import Spec
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def plan(
    spec: Annotated[Path, typer.Argument(help="The spec, a YAML file.")],
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what a spec would extract, in prompts, tokens, bytes, seconds, memory. Refused if the disk is too small.

    `training_passes` counts passes over a concept's training pairs, forwards and back, that its trained methods take at
    most, with their controls; `side_effect_tokens` those that are read to measure side effects, and `capability_tokens`
    at most those of the capability sets' prompts and answers. What the store has already is not left out of the three.
    """
    wanted, opened = allowed_spec(spec), Store(store or default_store())
    found = [_forecast(wanted, name, opened) for name in wanted.models]
    training = training_passes(wanted)
    rows = [{**dataclasses.asdict(one), "training_passes": training, **tokens} for one, tokens in found]
    print_rows(rows, list(rows[0]), form)
    opened.check_room(sum(one.bytes for one, _ in found))


def _forecast(spec: Spec, name: str, store: Store) -> tuple[Forecast, dict[str, int]]:
    """What extraction costs, and how many tokens side effects and capabilities take."""
    with open_model(name, spec.template, spec.memory_limit) as model:
        concepts = load_concepts(spec.concepts)
        prompts = [sided_prompt(model, concept, text) for concept in concepts for text in concept.texts]
        layers = extracted_layers(spec, model)
        found = forecast(model, store, prompts, Reading(tuple(layers), spec.activations.position))
        peak = max(found.peak_memory, _peak_of_sampling(spec, model, prompts))
        tokens = {
            "side_effect_tokens": side_effect_tokens(spec, model, concepts),
            "capability_tokens": tokens_of(model, capability_sets(spec), len(concepts)),
        }
        return dataclasses.replace(found, peak_memory=peak), tokens


def _peak_of_sampling(spec: Spec, model: Model, prompts: Sequence[Prompt]) -> int:
    """Bytes that are held while texts are sampled; prompts are taken to be as long as the longest of the pairs."""
    memory = model.memory
    end = max((len(prompt.tokens) for prompt in prompts), default=0) + spec.generations.max_tokens
    return memory.footprint.weights + memory.sampled_bytes(memory.sampled(end), end)
