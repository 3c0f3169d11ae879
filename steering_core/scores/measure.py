"""Measurements: metrics of items, neutral prompts and texts for the cells of a grid; only those the store lacks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

import pyarrow as pa

from steering_core.candidates.answers import NeutralAnswer
from steering_core.candidates.cell import Cell
from steering_core.concepts import Item, Split
from steering_core.concepts.neutral import neutral_prompt_id
from steering_core.foundation.counting import Done
from steering_core.foundation.keys import content_key
from steering_core.foundation.progress import Progress, silent
from steering_core.prompts import Prompt, open_prompt
from steering_core.scores.metrics import (
    ANSWER_METRICS,
    ITEM_METRICS,
    NEUTRAL_METRICS,
    TEXT_METRICS,
    Setup,
    read_ahead,
)
from steering_core.scores.rubric import HARMONIC, combined, ratings_of
from steering_core.scores.scorers import Rating, ScoredBy, ScoredText
from steering_core.statistics.metric_names import RATINGS
from steering_core.store import CELL, Store

MEASUREMENTS_VERSION = 2
_PER_FILE = 4096
_READ_AHEAD = 24  # subjects whose prompts are read together; their caches must still be kept when they are measured
_ANSWERS_PER_FILE = 32  # of scorers: a judge's answers are dear, so that a kill should lose few
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class _Wanted(Generic[Subject]):
    """One measurement: a metric of one subject under one cell."""

    metric: str
    subject_id: str
    subject: Subject
    cell: Cell


def measure_items(
    setup: Setup,
    store: Store,
    cells: Sequence[Cell],
    items: Sequence[Item],
    split: Split,
    metrics: Sequence[str],
    progress: Progress = silent,
) -> Done:
    """Have the store hold every item metric of every cell on `items`, which are of `split`."""
    subjects = {item.item_id: item for item in items}
    return _measure_cells(setup, store, cells, subjects, split, _named(ITEM_METRICS, metrics), progress)


def measure_neutral(
    setup: Setup,
    store: Store,
    cells: Sequence[Cell],
    prompts: Sequence[str],
    split: Split,
    metrics: Sequence[str],
    progress: Progress = silent,
) -> Done:
    """Have the store hold every neutral metric of every cell on neutral `prompts`, kept for `split`.

    A system prompt is left out: it changes the prompt itself.
    """
    cells = [cell for cell in cells if cell.system is None]
    subjects = {neutral_prompt_id(text, setup.concept.chat): text for text in prompts}
    return _measure_cells(setup, store, cells, subjects, split, _named(NEUTRAL_METRICS, metrics), progress)


def measure_answers(
    setup: Setup,
    store: Store,
    cells: Sequence[Cell],
    answers: Sequence[NeutralAnswer],
    split: Split,
    metrics: Sequence[str],
    progress: Progress = silent,
) -> Done:
    """Have the store hold every answer metric of every cell on the untouched model's `answers`, kept for `split`.

    A system prompt is left out: it changes the prompt itself.
    """
    cells = [cell for cell in cells if cell.system is None]
    subjects = {answer.answer_id: answer for answer in answers}
    return _measure_cells(setup, store, cells, subjects, split, _named(ANSWER_METRICS, metrics), progress)


MetricFunction = Callable[[Setup, Subject, Sequence[Cell]], list[float]]


def _named(
    registered: Mapping[str, MetricFunction[Subject]], names: Sequence[str]
) -> dict[str, MetricFunction[Subject]]:
    return {name: registered[name] for name in names if name in registered}


def _measure_cells(
    setup: Setup,
    store: Store,
    cells: Sequence[Cell],
    subjects: Mapping[str, Subject],
    split: Split,
    metrics: Mapping[str, MetricFunction[Subject]],
    progress: Progress,
) -> Done:
    """Every metric of every subject under every cell; a subject's missing cells are measured together."""
    wanted: dict[str, _Wanted[Subject]] = {}
    for subject_id, subject in subjects.items():
        for metric in metrics:
            for cell in cells:
                made_of = (metric, cell.model_id, cell.concept_id, cell.control, cell.intervention_id, subject_id)
                key = content_key("measurement", MEASUREMENTS_VERSION, *made_of, split)
                wanted[key] = _Wanted(metric, subject_id, subject, cell)
    done = Done(list(wanted))
    with done.work.timed(), store.lock(f"measurements-{setup.model.identity.model_id}"):
        missing = store.absent("measurements", wanted)
        done.work.reused = len(wanted) - len(missing)
        together: dict[tuple[str, str], list[str]] = {}
        for i in (i for i in wanted if i in missing):
            together.setdefault((wanted[i].metric, wanted[i].subject_id), []).append(i)
        before, rows = replace(setup.work), []
        for at, ((metric, subject_id), ids) in enumerate(together.items()):
            if at % _READ_AHEAD == 0:
                ahead = islice(together.items(), at, at + _READ_AHEAD)
                _read_ahead(setup, [(m, subjects[s], [wanted[i].cell for i in its]) for (m, s), its in ahead])
            values = metrics[metric](setup, subjects[subject_id], [wanted[i].cell for i in ids])
            for i, value in zip(ids, values, strict=True):
                rows.append(_row(i, wanted[i].cell.columns(), subject_id, split, metric, Rating(value)))
            done.work.computed += len(ids)
            progress(done.work.computed, len(missing))
            if len(rows) >= _PER_FILE:
                store.append("measurements", rows)
                rows = []
        store.append("measurements", rows)
    done.work += setup.work - before
    return done


def _read_ahead(setup: Setup, asked: Sequence[tuple[str, Subject, Sequence[Cell]]]) -> None:
    """Have the prompts of some measurements read together, metric by metric."""
    for metric in dict.fromkeys(metric for metric, _, _ in asked):
        read_ahead(setup, metric, [(subject, cells) for name, subject, cells in asked if name == metric])


def measure_texts(
    setup: Setup,
    store: Store,
    generation_ids: Sequence[str],
    split: Split,
    metrics: Sequence[str],
    progress: Progress = silent,
) -> Done:
    """Have the store hold every text metric of those generations; a scorer's ratings are stored as they come.

    The harmonic mean of a judge's rubric is computed from the stored ratings.
    """
    wanted: dict[str, tuple[str, str]] = {}
    for metric in (name for name in metrics if name in TEXT_METRICS or name in setup.scorers):
        for generation_id in generation_ids:
            wanted[_text_measurement(setup, metric, generation_id, split)] = (metric, generation_id)
    done = Done(list(wanted))
    with done.work.timed(), store.lock(f"measurements-{setup.model.identity.model_id}"):
        missing = store.absent("measurements", wanted)
        done.work.reused = len(wanted) - len(missing)
        todo = {i: what for i, what in wanted.items() if i in missing}
        before, rows = replace(setup.work), []
        scorers: dict[str, ScoredBy] = {}
        try:
            for i, metric, text, rating in _rated(setup, store, todo):
                cell = {name: text[name] for name in CELL}
                rows.append(_row(i, cell, text["generation_id"], split, metric, rating))
                done.work.computed += 1
                progress(done.work.computed, len(todo))
                if rating.by:
                    scorers[rating.by.scorer_id] = rating.by
                    if len(rows) >= _ANSWERS_PER_FILE:
                        _publish(store, scorers, rows)
                        rows = []
        finally:  # a judge that fails at the last text shall not be asked about the others again
            _publish(store, scorers, rows)
    done.work += setup.work - before
    if HARMONIC in metrics and all(metric in setup.scorers for metric in RATINGS):
        done += _measure_harmonic(setup, store, generation_ids, split)
    return done


def _text_measurement(setup: Setup, metric: str, generation_id: str, split: Split) -> str:
    """Key of a text's measurement; a scorer's key is part of it."""
    asked = [setup.scorers[metric].key] if metric in setup.scorers else []
    return content_key("measurement", MEASUREMENTS_VERSION, metric, generation_id, split, *asked)


def _measure_harmonic(setup: Setup, store: Store, generation_ids: Sequence[str], split: Split) -> Done:
    """Have the store hold the harmonic mean of the rubric's ratings of every text."""
    parts = {g: [_text_measurement(setup, metric, g, split) for metric in RATINGS] for g in generation_ids}
    wanted = {content_key("measurement", MEASUREMENTS_VERSION, HARMONIC, *of): g for g, of in parts.items()}
    done = Done(list(wanted))
    with done.work.timed(), store.lock(f"measurements-{setup.model.identity.model_id}"):
        missing = store.absent("measurements", wanted)
        todo = {wanted[i]: i for i in wanted if i in missing}
        done.work.reused = len(wanted) - len(todo)
        rows, scorers = [], {}
        for generation_id, rated in ratings_of(store, [i for g in todo for i in parts[g]]).items():
            rating = combined(rated)
            assert rating.by is not None, "what judges said names the judge"
            scorers[rating.by.scorer_id] = rating.by
            cell = {name: rated[0][name] for name in CELL}
            rows.append(_row(todo[generation_id], cell, generation_id, split, HARMONIC, rating))
        done.work.computed = len(rows)
        _publish(store, scorers, rows)
    return done


def _publish(store: Store, scorers: Mapping[str, ScoredBy], rows: Sequence[dict[str, Any]]) -> None:
    """Store measurements, and before them the scorers that they name."""
    store.append("scorers", [{"scorer_id": i, **scorer.columns()} for i, scorer in scorers.items()])
    store.append("measurements", rows)


def _rated(
    setup: Setup, store: Store, todo: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str, dict[str, Any], Rating]]:
    """Each measurement's id, metric, generation and rating, metric by metric."""
    texts = _texts(store, sorted({generation_id for _, generation_id in todo.values()}))
    prompts = {t: open_prompt(setup.model, setup.concept, t) for t in {row["prompt"] for row in texts.values()}}
    for metric in dict.fromkeys(metric for metric, _ in todo.values()):
        ids = [i for i in todo if todo[i][0] == metric]
        found = [texts[todo[i][1]] for i in ids]
        sampled = [_sampled(prompts[row["prompt"]], row) for row in found]
        for i, row, rating in zip(ids, found, _ratings(setup, metric, sampled), strict=True):
            yield i, metric, row, rating


def _sampled(prompt: Prompt, row: Mapping[str, Any]) -> ScoredText:
    return ScoredText(
        prompt, tuple(row["tokens"]), row["text"], row["finish"], (row["intervention_id"], row["control"])
    )


def _ratings(setup: Setup, metric: str, texts: Sequence[ScoredText]) -> Iterator[Rating]:
    if metric in setup.scorers:
        return setup.scorers[metric].ratings(texts, setup.work)
    return (Rating(value) for value in TEXT_METRICS[metric](setup, texts))


def _texts(store: Store, generation_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted = pa.table({"generation_id": pa.array(generation_ids, pa.string())})
    rows = store.rows("SELECT * FROM wanted JOIN raw.generations USING (generation_id)", wanted=wanted)
    return {row["generation_id"]: row for row in rows}


def _row(i: str, cell: dict[str, Any], subject: str, split: Split, metric: str, rating: Rating) -> dict[str, Any]:
    row = {"measurement_id": i, **cell, "subject_id": subject, "split": split, "metric": metric, "value": rating.value}
    return row | {"scorer_id": rating.by.scorer_id if rating.by else None, "reply": rating.reply}
