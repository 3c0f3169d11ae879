"""Export: a slice of the store as one file that other tools read."""

import os
from pathlib import Path

from steering_core.foundation.errors import StoreError
from steering_core.store.store import Store

_FORMATS = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".csv": "FORMAT csv, HEADER", ".json": "FORMAT json, ARRAY"}


def export_query(store: Store, sql: str, to: Path) -> int:
    """Write the rows of `sql` to `to`, as its suffix says: .parquet, .csv or .json (an array); how many rows.

    The file appears when it is whole. Raises StoreError for another suffix, QueryError for what is not one SELECT.
    """
    if to.suffix not in _FORMATS:
        raise StoreError(f"cannot export to {to}: name a file that ends in {', '.join(_FORMATS)}")
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    with store.connect() as connection:
        connection.register("exported", store.answer(sql))
        try:
            count = connection.sql("SELECT count(*) FROM exported").fetchall()[0][0]
            path = str(temporary).replace("'", "''")
            connection.execute(f"COPY exported TO '{path}' ({_FORMATS[to.suffix]})")
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)
    return int(count)
