"""Generations: texts sampled for the cells of a grid; only those that the store lacks."""

import contextlib
from collections.abc import Sequence
from typing import Any

from steering_core.candidates.cell import CHANCE_CONTROLS, NONE, WITH_PROMPT, Cell
from steering_core.concepts import Concept, Split
from steering_core.engine.draws import drawn_at
from steering_core.engine.sampling import Request, Sample, sample
from steering_core.foundation.counting import Done
from steering_core.foundation.keys import content_key, seed_from
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from steering_core.prompts import Prompt, open_prompt
from steering_core.spec import GenerationsSpec
from steering_core.store import Store

GENERATIONS_VERSION = 2
_ROWS_PER_FILE = 256


def asked(concept: Concept, split: Split, n: int) -> tuple[str, ...]:
    """The first `n` open prompts of a split: every other one, so that no text that chose a candidate reports on it.

    A concept's only prompt serves both.
    """
    return (concept.prompts[0 if split == "validation" else 1 :: 2] or concept.prompts)[:n]


def generate(
    model: Model,
    store: Store,
    concept: Concept,
    cells: Sequence[Cell],
    spec: GenerationsSpec,
    split: Split,
    progress: Progress = silent,
    *,
    waits: bool = True,
) -> Done:
    """Have the store hold the texts of every cell and open prompt of a split.

    A candidate and the unsteered model answer a prompt once with each seed, other controls with the first seed alone.
    Chance controls, and the candidate after a system prompt, have no texts: nothing is decided by them. Other processes
    that sample the model's texts are waited for unless `waits` is False; a text that two sampled is stored once.
    Raises InterventionError for an intervention that does not fit the model.
    """
    read = [cell for cell in cells if cell.control not in (*CHANCE_CONTROLS, WITH_PROMPT)]
    wanted = _wanted(model, concept, read, spec, split)
    with store.lock(f"generations-{model.identity.model_id}") if waits else contextlib.nullcontext():
        return _sampled(model, store, concept, wanted, spec, progress)


_Wanted = dict[str, tuple[Cell, str, int]]
"""Each text by its key: the cell that it is sampled under, the open prompt that it answers, and its seed."""


def _wanted(model: Model, concept: Concept, cells: Sequence[Cell], spec: GenerationsSpec, split: Split) -> _Wanted:
    wanted: _Wanted = {}
    for text in asked(concept, split, spec.prompts):
        for cell in cells:
            for seed in spec.seeds if cell.control in (None, NONE) else spec.seeds[:1]:
                wanted[_generation_id(cell, concept, text, seed, spec, model.further_stops)] = (cell, text, seed)
    return wanted


def _sampled(
    model: Model, store: Store, concept: Concept, wanted: _Wanted, spec: GenerationsSpec, progress: Progress
) -> Done:
    """Have the store hold the texts, `_ROWS_PER_FILE` a file: an interrupted call loses no more than one file's."""
    done = Done(list(wanted))
    with done.work.timed():
        missing = store.absent("generations", wanted)
        todo = [(i, *wanted[i]) for i in wanted if i in missing]
        done.work.reused = len(wanted) - len(todo)
        prompts = {(c.system, t): open_prompt(model, concept, t, c.system) for _, c, t, _ in todo}
        requests = [
            Request(prompts[cell.system, text].tokens, cell.intervention, seed_from(seed, text))
            for _, cell, text, seed in todo
        ]
        rows: list[dict[str, Any]] = []
        for i, found in sample(model, requests, spec.max_tokens, spec.temperature, done.work):
            generation_id, cell, text, _ = todo[i]
            prompt = prompts[cell.system, text]
            rows.append(_row(generation_id, cell, text, prompt, found, requests[i].seed, spec))
            done.work.computed += 1
            progress(done.work.computed, len(todo))
            if len(rows) == _ROWS_PER_FILE:
                store.append("generations", rows)
                rows = []
        store.append("generations", rows)
    return done


def _generation_id(
    cell: Cell, concept: Concept, text: str, seed: int, spec: GenerationsSpec, stops: tuple[int, ...]
) -> str:
    """Key of a text. Stop tokens are part of it only where the model has more than its tokenizer's.

    So texts of before 0.2, whose keys had none, keep them.
    """
    sampling = (spec.max_tokens, drawn_at(spec.temperature), seed, *([stops] if stops else []))
    made_of = (cell.model_id, cell.concept_id, cell.intervention_id, concept.chat, text, *sampling)
    return content_key("generation", GENERATIONS_VERSION, cell.control, *made_of)


def _row(
    generation_id: str, cell: Cell, text: str, prompt: Prompt, found: Sample, seed: int, spec: GenerationsSpec
) -> dict[str, Any]:
    return {
        "generation_id": generation_id,
        **cell.columns(),
        "prompt_id": prompt.prompt_id,
        "prompt": text,
        "text": found.text,
        "tokens": list(found.tokens),
        "n_tokens": len(found.tokens),
        "finish": found.finish,
        "seed": seed,
        "temperature": spec.temperature,
        "max_tokens": spec.max_tokens,
    }
