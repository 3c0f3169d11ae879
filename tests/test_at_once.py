"""Three runs, compaction, gc and readers on one new store at once: the store is that of the runs one after another.

Numbers are held to 1e-4 of themselves. Which texts share a batch depends on who comes first, and moved a `kl` by 5e-6;
so is a score's id left out, which is made of its numbers. Every other id is compared.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from steering_core.concepts import Concept
from steering_core.store import TABLES, Store, upkeep, wholeness
from tests import quick
from tests.crowd import litter_and_collect, run
from tests.stored import contents, held

GRIDS = (  # each shares vectors, texts and scores with the next
    {"layers": [1, 2], "doses": [0.5]},
    {"layers": [2, 3], "doses": [0.5]},
    {"layers": [1, 3], "doses": [0.5, 1.0]},
)
LITTER = {"activations": 32, "pairs": 8, "concepts": 1, "prompts": 8}  # that a round of gc is given to drop
SAID = {
    "runs": "name, spec, spec_key, outcome, versions, recommendation_ids, concept_ids, model_ids",
    "outcomes": "model, concept, model_id, concept_id, recommendation_id, outcome, error",
}


@pytest.fixture
def specs(tiny_folder: Path, concept: Concept, tmp_path: Path) -> list[Path]:
    """Three specs of one model and one concept, whose grids overlap."""
    loud = tmp_path / "loud.yaml"
    loud.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    of = {"models": [str(tiny_folder)], "concepts": [str(loud)], "vectors": quick.VECTORS}
    of["scores"] = quick.SCORES | {"side_effects": "none"}
    paths = [tmp_path / f"{i}.yaml" for i in range(len(GRIDS))]
    for path, grid in zip(paths, GRIDS, strict=True):
        grid = {**grid, "prompts": 1, "max_tokens": 3, "shortlist": "all"}
        path.write_text(yaml.safe_dump({"name": path.stem, **of, "generations": grid}))
    return paths


def said(root: Path) -> dict[str, list[dict[str, Any]]]:
    """What the runs and their outcomes say, but for when and how long."""
    store = Store(root)
    return {table: store.rows(f"SELECT {columns} FROM raw.{table} ORDER BY ALL") for table, columns in SAID.items()}


def sorted_apart(root: Path) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """The rows of each table in one order: what is no number, as text, and all the numbers, nan for null.

    Of a list of numbers its length is text.
    """
    words, numbers = {}, {}
    for name, rows in contents(root).items():
        of_numbers = {field.name for field in TABLES[name].schema if of_float64(field.type)}
        apart = []
        for row in rows:
            lists = {k: row[k] if isinstance(row[k], list) else [row[k]] for k in row if k in of_numbers}
            text = {k: len(lists[k]) if k in lists else row[k] for k in row if k != "score_id"}
            apart.append((str(text), [float("nan") if x is None else x for values in lists.values() for x in values]))
        apart.sort()
        words[name] = [text for text, _ in apart]
        numbers[name] = np.array([x for _, values in apart for x in values])
    return words, numbers


def of_float64(kind: pa.DataType) -> bool:
    """Whether a column is of numbers, or of lists of them."""
    return pa.types.is_float64(kind) or (pa.types.is_list(kind) and pa.types.is_float64(kind.value_type))


def one_after_another(root: Path, specs: list[Path]) -> list[dict[str, int]]:
    """Do each spec in a new store, then a round of gc and of compaction; the rows that each run computed and found."""
    done = [dict(run(Store(root), str(spec))) for spec in specs]
    litter_and_collect(Store(root))
    upkeep.compact(Store(root))
    return done


def at_once(root: Path, specs: list[Path]) -> dict[str, dict[str, int]]:
    """Do each spec in a new store while others compact, collect and read; what each process did."""
    command = [sys.executable, "-m", "tests.crowd", str(root), *map(str, specs)]
    done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert {name: did.pop("exit code") for name, did in done.items()} == dict.fromkeys(done, 0)
    return dict(done)


def test_runs_compaction_gc_and_readers_at_once_leave_what_runs_one_after_another_leave(
    specs: list[Path], tmp_path: Path
) -> None:
    calm, crowded = tmp_path / "calm", tmp_path / "crowded"
    asked = one_after_another(calm, specs)
    done = at_once(crowded, specs)
    (words, numbers), (expected_words, expected_numbers) = sorted_apart(crowded), sorted_apart(calm)
    for table, expected in expected_words.items():
        assert words[table] == expected, table
        np.testing.assert_allclose(numbers[table], expected_numbers[table], 1e-4, 1e-6, err_msg=table)
    assert said(crowded) == said(calm)
    assert [done[f"run {i}"] for i in range(len(specs))] == asked
    for table in ("vectors", "generations"):
        counted = [row for row in words[table] if "'control': 'permuted'" not in str(row)]  # those are no stage's work
        assert sum(run[table] for run in asked) > len(counted) > 0, f"the specs share no {table}"
    held(crowded)
    assert wholeness.verify(Store(crowded).folder)[1] == []
    assert not list(crowded.rglob(".tmp-*"))
    rounds = done["gc"].pop("rounds")
    assert done["gc"] == {table: rounds * rows for table, rows in LITTER.items()}, "gc dropped what a run had made"
    assert done["compact"]["merged"] > 0
    assert done["tables"]["rounds"] > 0
    assert done["views"]["rounds"] > 0
