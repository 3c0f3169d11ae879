"""References: rows that name rows of another table by their keys, which a copied store may have lost."""

from dataclasses import dataclass

from steering_core.store.store import Store
from steering_core.store.tables import TABLES

_OTHERS = (  # beside models: rows that no upkeep drops while those of the first table are there
    ("qualities", "vector_id", "vectors"),
    ("gates", "vector_id", "vectors"),
    ("stability", "recommendation_id", "recommendations"),
)


@dataclass(frozen=True)
class Lost:
    """How many rows of `table` name rows of `lacking` that are not there: the views leave them out."""

    table: str
    rows: int
    lacking: str

    def __str__(self) -> str:
        return f"{self.rows:,} of {self.table} name {self.lacking} that are not there"


def lost(store: Store) -> list[Lost]:
    """What is lost of the models, vectors and recommendations that rows of other tables name."""
    of_models = [(t.name, "model_id", "models") for t in TABLES.values() if "model_id" in t.schema.names]
    found = []
    for table, column, named in (*of_models, *_OTHERS):
        if table == named:
            continue
        (count,) = store.rows(
            f'SELECT count(*) AS n FROM raw."{table}" ANTI JOIN raw.{named} USING ({column}) WHERE {column} IS NOT NULL'
        )
        found += [Lost(table, count["n"], named)] * (count["n"] > 0)
    return found
