"""The forms in which rows of the SQL box go out: JSON for the page, CSV and Parquet as files, Arrow for programs."""

import io
import json
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from steering_core.foundation.json_values import plain

TableForm = Literal["json", "csv", "parquet", "arrow"]


def written(rows: pa.Table, form: TableForm, cut: bool = False) -> bytes:
    """`rows` in that form; JSON says of itself whether they were `cut`."""
    sink = io.BytesIO()
    if form == "json":
        sink.write(_json(rows, cut))
    elif form == "csv":
        pyarrow.csv.write_csv(_without_lists(rows), sink)
    elif form == "parquet":
        pyarrow.parquet.write_table(rows, sink)
    else:
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
    return sink.getvalue()


def _json(rows: pa.Table, cut: bool) -> bytes:
    types = {field.name: str(field.type) for field in rows.schema}
    table = {"columns": rows.column_names, "types": types, "rows": [plain(row) for row in rows.to_pylist()], "cut": cut}
    return json.dumps(table, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _without_lists(table: pa.Table) -> pa.Table:
    """CSV has no lists or structs: they go out as JSON-like text."""
    for i, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            shown = pa.array([None if value is None else str(value) for value in table[column.name].to_pylist()])
            table = table.set_column(i, column.name, shown)
    return table
