"""How well each concept's vector separates held-out sides, beside what shallow features do without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steering_core.authoring.lint.shallow_probe import baseline_auc
from steering_core.authoring.lint.sided import sided_pairs
from steering_core.authoring.lint.wording import bag
from steering_core.concepts.concept import Concept, Split
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.output_files import writable_path, write_text
from steering_core.foundation.user_files import file_text, is_file
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.runs import Run
from steering_core.statistics.separation import Estimate, separation
from steering_core.vectors.contrast import Contrast, concept_sides, read_contrasts
from steering_core.vectors.methods import mean_difference

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
HELD_OUT: tuple[Split, Split] = ("validation", "test")
RESAMPLES = 1000
MAX_PAGE = 16 << 20  # bytes


def results(run: Run) -> list[dict[str, Any]]:
    """One row a model and concept of a run: the layer whose mean difference is best on validation, its AUC on test.

    `auc` is the chance that a positive side's projection lies above a negative one's, with a bootstrap interval over
    pairs; equal ones on validation are told apart by their distance, d'. Beside it stands the AUC, on the same test
    pairs, of a ridge probe that sees no word (`surface_auc`) and of one that sees all words (`words_auc`).
    A concept that fails has no row; `run.raise_failures` raises its error.
    """
    rows: list[dict[str, Any]] = []
    each_cell(run, lambda run, model, concept: rows.append(_row(run, model, concept)))
    return rows


def _row(run: Run, model: Model, concept: Concept) -> dict[str, Any]:
    directions = [mean_difference(c.positive, c.negative) for c in _contrasts(run, model, concept, "train")]
    validation, test = (
        list(map(_separation, _contrasts(run, model, concept, split), directions)) for split in HELD_OUT
    )
    best = max(range(len(directions)), key=lambda layer: [e.value for e in validation[layer].values()])
    found = test[best]["auc"]
    return {
        "concept": concept.name,
        "pairs": len(sided_pairs(concept)),
        "test_pairs": found.n,
        "layer": best,
        "auc": found.value,
        "auc_low": found.low,
        "auc_high": found.high,
        "surface_auc": baseline_auc(concept, "test"),
        "words_auc": baseline_auc(concept, "test", bag),
    }


def _separation(contrast: Contrast, direction: np.ndarray) -> dict[str, Estimate]:
    """AUC and, where it is defined, d' of the projections, in this order."""
    projections = contrast.positive @ direction, contrast.negative @ direction
    return separation(*projections, RESAMPLES, seed=0, paired=contrast.paired)


def _contrasts(run: Run, model: Model, concept: Concept, split: Split) -> list[Contrast]:
    sides = concept_sides(run.store, model.identity, concept.concept_id, split)
    if not sides.complete:
        raise ConceptError(f"{concept.name} has no {split} pairs: it needs five pairs or more")
    layers = range(model.identity.n_layers)
    return list(read_contrasts(run.store, model.identity, sides, layers, run.spec.activations.position))


def results_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join("---" if isinstance(rows[0][n], str) else "---:" for n in names)]
    lines += [" | ".join(_shown(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def write_results(page: Path, table: str, place: str = "results") -> None:
    """Put `table` between the marks of that name of a Markdown page. Raises ConceptError where the page has none."""
    before, after = around_results(page, place)
    write_text(page, f"{before}\n{table}\n{after}", ConceptError)


def around_results(page: Path, place: str = "results") -> tuple[str, str]:
    """What stands before and after the table of that name in a page, the marks included.

    Raises ConceptError where the page cannot be written, or has no such marks.
    """
    begin, end = BEGIN.format(place), END.format(place)
    text = file_text(page, ConceptError, MAX_PAGE) if is_file(writable_path(page, ConceptError)) else ""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConceptError(f"{page} has no place for the table: it needs the lines {begin} and {end}")
    return before + begin, end + after
