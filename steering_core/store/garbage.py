"""Garbage: rows that can be made again and that nothing refers to, listed and dropped.

What people wrote (labels), what runs cost most to make (generations, measurements, scores, recommendations, vectors
that nobody removed) and what says what was done (runs, outcomes, models, scorers, planted) is never garbage.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from steering_core.store.merging import Exchanged, by_folder, lock_name, lock_path, read_files, replace_files
from steering_core.store.store import IN_USE, Store

_KEPT = """
WITH cells AS (
    SELECT concept_id, vector_ids FROM raw.generations
    UNION ALL SELECT concept_id, vector_ids FROM raw.measurements
    UNION ALL SELECT concept_id, vector_ids FROM raw.scores
    UNION ALL SELECT concept_id, vector_ids FROM raw.capabilities
    UNION ALL SELECT concept_id, vector_ids FROM raw.recommendations
),
kept_vectors AS (
    SELECT * FROM raw.vectors
    WHERE vector_id NOT IN (SELECT vector_id FROM labels WHERE kind = 'removed')
    OR vector_id IN (SELECT unnest(vector_ids) FROM cells)
),
kept_concepts AS (
    SELECT unnest(concept_ids) AS concept_id FROM raw.runs
    UNION SELECT concept_id FROM cells
    UNION SELECT concept_id FROM kept_vectors
),
kept_activations AS (
    SELECT model_id, unnest(prompt_ids) AS prompt_id FROM kept_vectors
    UNION
    SELECT r.model_id, p.prompt_id
    FROM (SELECT unnest(model_ids) AS model_id, concept_ids FROM raw.runs) r
    JOIN raw.models m USING (model_id)
    JOIN raw.pairs p ON list_contains(r.concept_ids, p.concept_id) AND p.tokenizer_id = m.tokenizer_id
),
kept_prompts AS (
    SELECT prompt_id FROM kept_activations
    UNION SELECT prompt_id FROM raw.generations
    UNION SELECT prompt_id FROM raw.pairs SEMI JOIN kept_concepts USING (concept_id)
)
"""


@dataclass(frozen=True)
class _Rule:
    """Rows of `table` stay where their values of `columns` are among those of the query `kept`."""

    table: str
    why: str
    columns: tuple[str, ...]
    kept: str


_RULES = (  # those that are referred to come after those that refer to them
    _Rule("vectors", "removed, and in no evaluated cell", ("vector_id",), "SELECT vector_id FROM kept_vectors"),
    _Rule("qualities", "their vector is gone", ("vector_id",), "SELECT vector_id FROM kept_vectors"),
    _Rule("gates", "their vector is gone", ("vector_id",), "SELECT vector_id FROM kept_vectors"),
    _Rule(
        "projections",
        "their vector or text is gone",
        ("vector_id", "generation_id"),
        "SELECT vector_id, generation_id FROM raw.projections SEMI JOIN kept_vectors USING (vector_id) "
        "SEMI JOIN raw.generations USING (generation_id)",
    ),
    _Rule(
        "activations",
        "no vector was made of them and no run's concepts use them",
        ("model_id", "prompt_id"),
        "SELECT model_id, prompt_id FROM kept_activations",
    ),
    _Rule("pairs", "no run, vector or cell has their concept", ("concept_id",), "SELECT concept_id FROM kept_concepts"),
    _Rule("items", "no run, vector or cell has their concept", ("concept_id",), "SELECT concept_id FROM kept_concepts"),
    _Rule("concepts", "no run, vector or cell has them", ("concept_id",), "SELECT concept_id FROM kept_concepts"),
    _Rule("prompts", "no pair, activation or text has them", ("prompt_id",), "SELECT prompt_id FROM kept_prompts"),
)


def unreferred(store: Store) -> list[dict[str, Any]]:
    """What `collect` would drop: rows of each table, bytes of its activations and vectors, and why."""
    found = []
    for rule in _RULES:
        floats = {"activations": "activation", "vectors": "vector"}.get(rule.table)
        size = f"CAST(sum(4 * len({floats})) AS BIGINT)" if floats else "CAST(NULL AS BIGINT)"
        model = "l.model_id" if floats else "NULL"
        found += store.rows(
            f"{_KEPT}, left_over AS (SELECT * FROM raw.{rule.table} ANTI JOIN ({rule.kept}) USING "
            f"({', '.join(rule.columns)})) SELECT ? AS table, m.name AS model, count(*) AS rows, {size} AS bytes, "
            f"? AS why FROM left_over l LEFT JOIN raw.models m ON m.model_id = {model} GROUP BY ALL ORDER BY ALL",
            [rule.table, rule.why],
        )
    return found


def run_goes_on(store: Store) -> bool:
    """Whether a run is under way in the store. `collect` waits for its end, as its rows may not be referred to yet.

    Runs of other machines in an object store are not seen.
    """
    if not store.folder.writable:
        return False
    with store.folder.try_lock(IN_USE) as alone:
        return not alone


def collect(store: Store) -> list[Exchanged]:
    """Drop what `unreferred` lists, file by file, once no run is under way."""
    done = []
    with store.lock(IN_USE):
        for rule in _RULES:
            kept = _joined(store.query(f"{_KEPT} {rule.kept}"), rule.columns)
            for under in by_folder(rule.table, store.folder.names(rule.table)):
                with store.lock(lock_name(rule.table, under)):
                    done += _drop(store, rule, under, kept)
    return done


def _drop(store: Store, rule: _Rule, under: str, kept: pa.Array) -> list[Exchanged]:
    """Drop the rows of a table's folder that are not among `kept`, file by file."""
    done = []
    names = store.folder.names(lock_path(rule.table, under))
    for name in by_folder(rule.table, names).get(under, []):
        rows, whole = read_files(store.folder, rule.table, [name])
        keep = rows.filter(pc.is_in(_joined(rows, rule.columns), value_set=kept))
        if dropped := rows.num_rows - keep.num_rows:
            done.append(replace_files(store.folder, rule.table, under, keep, whole, dropped))
    return [exchanged for exchanged in done if exchanged]


def _joined(rows: pa.Table, columns: tuple[str, ...]) -> pa.Array:
    """The values of `columns`, joined to one text for each row."""
    return pc.binary_join_element_wise(*(rows[name].cast(pa.string()) for name in columns), "/").combine_chunks()
