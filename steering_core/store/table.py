"""What a table is, and the columns that every table of results carries."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

text, real, whole, flag = pa.string(), pa.float64(), pa.int32(), pa.bool_()
floats = pa.list_(pa.float32())


@dataclass(frozen=True)
class Table:
    """One table: a folder of immutable Parquet files that share a schema."""

    name: str
    holds: str
    key: tuple[str, ...]
    schema: pa.Schema
    filled: tuple[str, ...]
    """Columns that no row leaves empty: a file with a null there was not written by this package."""


def table(name: str, holds: str, key: tuple[str, ...], filled: tuple[str, ...] = (), /, **columns: Any) -> Table:
    """A table of that name, addressed by the columns `key`: what it holds, and its columns.

    No row leaves a column of `filled` empty, nor the first of the key.
    """
    return Table(name, holds, key, pa.schema(list(columns.items())), (key[0], *filled))


# What was done to the residual stream, in every table that depends on it. `intervention` is its expression; `control`
# is null for a candidate and otherwise says which control it is: none, random, shuffled, permuted, mirrored or prompt.
# `layers` and `vector_ids` list all; `layer`, and `vector_id` with `alpha`, are null where there are several.
CELL = {
    "model_id": text,
    "concept_id": text,
    "intervention_id": text,
    "intervention": text,
    "method": text,
    "layer": whole,
    "layers": pa.list_(whole),
    "alpha": real,
    "dose": real,
    "control": text,
    "phase": text,
    "vector_id": text,
    "vector_ids": pa.list_(text),
}
