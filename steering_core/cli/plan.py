"""`steer plan SPEC.yaml`: what a spec's run would cost, and how long it would take, before anything runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from steering_core.activations.capture import Reading
from steering_core.activations.forecast import forecast
from steering_core.cli.shared.options import FormatOption, SpecArgument, StoreOption
from steering_core.cli.shared.specs_in import allowed_spec
from steering_core.concepts.library import load_concepts
from steering_core.foundation.sizes import shown_size
from steering_core.models import Model, open_model
from steering_core.pipeline.discover import warn_of_lacks
from steering_core.pipeline.duration import done_before, duration
from steering_core.pipeline.outlook import Outlook, outlook
from steering_core.pipeline.wanted import extracted_layers, refuse_without_choice, training_passes
from steering_core.prompts import Prompt, sided_prompt
from steering_core.reports.printing import Format, console, print_rows
from steering_core.spec import Spec
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def plan(
    spec: SpecArgument,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what a spec's run would cost, in tokens, bytes, memory and time. Refused if the disk is too small.

    `seconds` is the whole run on this machine, at the pace of its last run of the model; where it has none, a second of
    passes is run to tell. Tokens of texts, scores, side effects and capabilities are counted as if the store had none;
    of the texts and scores they follow the usual course of a search. `training_passes` counts passes over a concept's
    training pairs, forwards and back, that its trained methods take at most, with their controls.
    """
    wanted, opened = allowed_spec(spec), Store(store or default_store())
    for concept in load_concepts(wanted.concepts):
        refuse_without_choice(concept, wanted.scores)
        warn_of_lacks(wanted, concept)
    rows = [_row(wanted, name, opened) for name in wanted.models]
    if form is Format.TABLE:
        for row in rows:
            _print_for_people(row)
    else:
        print_rows(rows, list(rows[0]), form)
    opened.check_room(sum(row["bytes"] for row in rows))


STAGES = (
    ("extraction", "tokens_run", "extraction", "activations.layers"),
    ("training", "training_tokens", "training", "vectors.methods, vectors.train_layers"),
    ("texts", "text_tokens", "text", "generations.prompts, .max_tokens, .shortlist"),
    ("scores", "score_tokens", "score", "scores.draws, scores.metrics, generations.layers"),
    ("side effects", "side_effect_tokens", "side_effect", "scores.side_effects (none)"),
    ("capabilities", "capability_tokens", "capability", "scores.capabilities (none)"),
)
"""A run's stages: what holds its tokens, which `_seconds` are its, and the spec's keys that make it shorter."""


def _print_for_people(row: Mapping[str, Any]) -> None:
    """A few sentences with what a plan is read for, then what each stage adds and which keys make it shorter."""
    said = f"{row['model']}: {row['takes']}"
    if row["seconds"]:
        said += f" ({row['pace']})"
    said += f". It holds at most {shown_size(row['peak_memory'])} of memory"
    if row["computed"]:
        said += f" and writes {shown_size(row['bytes'])}; {_stored(row['prompts'], row['stored_prompts'])}"
    console().print(f"{said}.")
    stages = [
        {"stage": name, "tokens": row[tokens], "takes": _in_words(seconds), "shorter with": keys}
        for name, tokens, part, keys in STAGES
        if (seconds := row[f"{part}_seconds"])
    ]
    if stages:
        print_rows(stages, list(stages[0]))


def _row(spec: Spec, name: str, store: Store) -> dict[str, Any]:
    """What a run of one model costs: its extraction, the stages after it, and how long both take."""
    with open_model(name, spec.template, spec.memory_limit) as model:
        concepts = load_concepts(spec.concepts)
        prompts = [sided_prompt(model, concept, text) for concept in concepts for text in concept.texts]
        reading = Reading(tuple(extracted_layers(spec, model)), spec.activations.position)
        found, ahead = forecast(model, store, prompts, reading), outlook(spec, model, concepts)
        left = Outlook() if found.computed == 0 and done_before(spec, store, model, concepts) else ahead
        took = duration(model, left, prompts)
        peak = max(found.peak_memory, _peak_of_sampling(spec, model, prompts))
    seconds = found.seconds + took.total
    extraction = dataclasses.asdict(found)
    del extraction["seconds"], extraction["tokens_per_second"]
    return {
        **extraction,
        "peak_memory": peak,
        "training_passes": training_passes(spec),
        "training_tokens": ahead.training,
        "text_tokens": ahead.texts,
        "score_tokens": ahead.scores,
        "side_effect_tokens": ahead.side_effects,
        "capability_tokens": ahead.capabilities,
        "extraction_seconds": found.seconds,
        "training_seconds": took.training,
        "text_seconds": took.texts,
        "score_seconds": took.scores,
        "side_effect_seconds": took.side_effects,
        "capability_seconds": took.capabilities,
        "seconds": seconds,
        "takes": f"about {_in_words(seconds)}" if seconds else "no time: the store has it all",
        "pace": took.pace,
    }


def _stored(prompts: int, stored: Mapping[int, int]) -> str:
    """How many prompts are stored; `of 9 prompts all are stored at layer 12, none at layer 3` where layers differ."""
    layers: dict[int, list[int]] = {}
    for layer, n in stored.items():
        layers.setdefault(n, []).append(layer)
    if len(layers) == 1:
        (n,) = layers
        return f"{n:,} of {prompts:,} prompts are stored"
    named = {prompts: "all", 0: "none"}
    most, *fewer = sorted(layers, reverse=True)
    parts = [f"{named.get(n, f'{n:,}')} at {_places(layers[n])}" for n in fewer]
    head = f"{named.get(most, f'{most:,}')} {'is' if most == 1 else 'are'} stored at {_places(layers[most])}"
    return f"of {prompts:,} prompts {', '.join([head, *parts])}"


def _places(layers: Sequence[int]) -> str:
    """`layer 12`, or `layers 0..11, 13`: neighbours as a range."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    said = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
    return f"layer{'s' * (len(layers) > 1)} {said}"


def _in_words(seconds: float) -> str:
    """A duration as people say it: 40 s, 6 min, 3 h 20 min."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _peak_of_sampling(spec: Spec, model: Model, prompts: Sequence[Prompt]) -> int:
    """Bytes that are held while texts are sampled; prompts are taken to be as long as the longest of the pairs."""
    memory = model.memory
    end = max((len(prompt.tokens) for prompt in prompts), default=0) + spec.generations.max_tokens
    return memory.footprint.weights + memory.sampled_bytes(memory.sampled(end), end)
