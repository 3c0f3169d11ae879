"""Measurements: metrics of items and texts for the cells of a grid; only those that the store lacks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steering_core.cells import Cell
from steering_core.concepts import Concept, Item, Split
from steering_core.engine import Work
from steering_core.keys import content_key
from steering_core.models import Model
from steering_core.progress import Progress, silent
from steering_core.prompts import open_prompt
from steering_core.scores.metrics import ITEM_METRICS, TEXT_METRICS, Text
from steering_core.store import CELL, Store

MEASUREMENTS_VERSION = 1


@dataclass
class Measured:
    """What one call did: the ids of all wanted measurements, how many were made and how many were there."""

    measurement_ids: list[str] = field(default_factory=list)
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    work: Work = field(default_factory=Work)


def measure_items(
    model: Model,
    store: Store,
    concept: Concept,
    cells: Sequence[Cell],
    split: Split,
    metrics: Sequence[str],
    limit: int | None = None,
    progress: Progress = silent,
) -> Measured:
    """Have the store hold every item metric of every cell on (at most `limit`) held-out items of one split."""
    started = time.perf_counter()
    wanted: dict[str, tuple[str, Cell, Item]] = {}
    for item in concept.items_in(split)[:limit]:
        for metric in (m for m in metrics if m in ITEM_METRICS):
            for cell in cells:
                made_of = (metric, cell.model_id, cell.concept_id, cell.control, cell.intervention_id, item.item_id)
                wanted[content_key("measurement", MEASUREMENTS_VERSION, *made_of)] = (metric, cell, item)
    done = Measured(list(wanted))
    with store.lock(f"measurements-{model.identity.model_id}"):
        missing = store.absent("measurements", wanted)
        done.reused, rows = len(wanted) - len(missing), []
        by_item: dict[tuple[str, str], list[str]] = {}
        for i in (i for i in wanted if i in missing):
            by_item.setdefault((wanted[i][0], wanted[i][2].item_id), []).append(i)
        for (metric, _), ids in by_item.items():
            item, todo = wanted[ids[0]][2], [wanted[i][1] for i in ids]
            values = ITEM_METRICS[metric](model, concept, item, todo, done.work)
            for i, cell, value in zip(ids, todo, values, strict=True):
                rows.append(_row(i, cell.columns(), item.item_id, split, metric, value))
            done.computed += len(ids)
            progress(done.computed, len(missing))
        store.append("measurements", rows)
    done.seconds = time.perf_counter() - started
    return done


def measure_texts(
    model: Model,
    store: Store,
    concept: Concept,
    generation_ids: Sequence[str],
    split: Split,
    metrics: Sequence[str],
    progress: Progress = silent,
) -> Measured:
    """Have the store hold every text metric of those generations."""
    started = time.perf_counter()
    wanted = {
        content_key("measurement", MEASUREMENTS_VERSION, metric, generation_id, split): (metric, generation_id)
        for metric in metrics
        if metric in TEXT_METRICS
        for generation_id in generation_ids
    }
    done = Measured(list(wanted))
    with store.lock(f"measurements-{model.identity.model_id}"):
        missing = store.absent("measurements", wanted)
        done.reused = len(wanted) - len(missing)
        todo = {i: what for i, what in wanted.items() if i in missing}
        texts = _texts(store, sorted({generation_id for _, generation_id in todo.values()}))
        prompts = {t: open_prompt(model, concept, t) for t in {row["prompt"] for row in texts.values()}}
        rows: list[dict[str, Any]] = []
        for metric in dict.fromkeys(metric for metric, _ in todo.values()):
            ids = [i for i in todo if todo[i][0] == metric]
            found = [texts[todo[i][1]] for i in ids]
            sampled = [Text(prompts[row["prompt"]], tuple(row["tokens"])) for row in found]
            values = TEXT_METRICS[metric](model, sampled, done.work)
            for i, row, value in zip(ids, found, values, strict=True):
                cell = {name: row[name] for name in CELL}
                rows.append(_row(i, cell, row["generation_id"], split, metric, value))
            done.computed += len(ids)
            progress(done.computed, len(todo))
        store.append("measurements", rows)
    done.seconds = time.perf_counter() - started
    return done


def _texts(store: Store, generation_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    placeholders = ", ".join("?" * len(generation_ids))
    if not generation_ids:
        return {}
    sql = f"SELECT * FROM raw.generations WHERE generation_id IN ({placeholders})"
    return {row["generation_id"]: row for row in store.rows(sql, list(generation_ids))}


def _row(i: str, cell: dict[str, Any], subject: str, split: Split, metric: str, value: float) -> dict[str, Any]:
    return {"measurement_id": i, **cell, "subject_id": subject, "split": split, "metric": metric, "value": value}
