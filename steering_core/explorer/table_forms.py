"""The forms in which rows of the SQL box go out: JSON for the page, CSV and Parquet as files, Arrow for programs."""

import io
import json
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from steering_core.foundation.json_values import plain
from steering_core.store.values import values_of

TableForm = Literal["json", "csv", "parquet", "arrow"]


def written(rows: pa.Table, form: TableForm, cut: bool = False) -> bytes:
    """`rows` in that form; JSON says of itself whether they were `cut`."""
    sink = io.BytesIO()
    if form == "json":
        sink.write(_json(rows, cut))
    elif form == "csv":
        pyarrow.csv.write_csv(_for_csv(rows), sink)
    elif form == "parquet":
        pyarrow.parquet.write_table(rows, sink)
    else:
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
    return sink.getvalue()


def _json(rows: pa.Table, cut: bool) -> bytes:
    types = {field.name: str(field.type) for field in rows.schema}
    columns = [[plain(value) for value in values_of(column)] for column in rows.columns]
    shown = [dict(zip(rows.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    table = {"columns": rows.column_names, "types": types, "rows": shown, "cut": cut}
    return json.dumps(table, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _for_csv(table: pa.Table) -> pa.Table:
    """The table with text where CSV has no form (lists, structs) or Arrow writes a wrong year (far times in a zone)."""
    for i, field in enumerate(table.schema):
        nested, zoned = pa.types.is_nested(field.type), pa.types.is_timestamp(field.type) and field.type.tz
        if not (nested or zoned):
            continue
        values = values_of(table.column(i))
        if nested or any(isinstance(value, str) for value in values):
            shown = pa.array([None if value is None else str(value) for value in values], pa.string())
            table = table.set_column(i, field.name, shown)
    return table
