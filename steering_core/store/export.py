"""Export: a slice of the store as one file that other tools read."""

from pathlib import Path

import duckdb

from steering_core.foundation.errors import StoreError
from steering_core.foundation.output_files import new_file
from steering_core.store.store import Store

_FORMATS = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".csv": "FORMAT csv, HEADER", ".json": "FORMAT json, ARRAY"}


def export_query(store: Store, sql: str, to: Path) -> int:
    """Write the rows of `sql` to `to`, as its suffix says: .parquet, .csv or .json (an array); how many rows.

    The file appears when it is whole. Raises StoreError for another suffix, QueryError for what is not one SELECT.
    """
    if to.suffix not in _FORMATS:
        raise StoreError(f"cannot export to {to}: name a file that ends in {', '.join(_FORMATS)}")
    with new_file(to, StoreError) as temporary, store.connect() as connection:
        rows = store.answer(sql)
        connection.register("exported", rows)
        path = str(temporary).replace("'", "''")
        try:
            connection.execute(f"COPY exported TO '{path}' ({_FORMATS[to.suffix]})")
        except duckdb.IOException as error:
            raise StoreError(f"{to} cannot be written ({error}): name another file") from error
    return int(rows.num_rows)
