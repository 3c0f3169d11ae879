"""The forms in which rows of the SQL box go out: JSON for the page, CSV and Parquet as files, Arrow for programs."""

import io
import json
from collections.abc import Callable
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
        pyarrow.parquet.write_table(_for_parquet(rows), sink)
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
    """The table with text where CSV has no form (lists, bytes, …) or Arrow errs (the year of far times in a zone)."""
    for i, field in enumerate(table.schema):
        zoned = pa.types.is_timestamp(field.type) and field.type.tz
        if zoned and not any(isinstance(value, str) for value in values_of(table.column(i))):
            continue
        if zoned or pa.types.is_nested(field.type) or _has(field.type, _without_csv):
            table = _with_text(table, i)
    return table


def _for_parquet(table: pa.Table) -> pa.Table:
    """The table with text where Parquet has no form: intervals, unions, maps without keys."""
    for i, field in enumerate(table.schema):
        if _has(field.type, _without_parquet):
            table = _with_text(table, i)
    return table


def _with_text(table: pa.Table, place: int) -> pa.Table:
    """The table with a column as text."""
    values = [plain(value) for value in values_of(table.column(place))]
    shown = [None if value is None else str(value) for value in values]
    return table.set_column(place, table.field(place).name, pa.array(shown, pa.string()))


def _without_csv(kind: pa.DataType) -> bool:
    return pa.types.is_interval(kind) or pa.types.is_binary(kind) or isinstance(kind, pa.BaseExtensionType)


def _without_parquet(kind: pa.DataType) -> bool:
    empty = pa.types.is_map(kind) and pa.types.is_null(kind.key_type)
    return empty or pa.types.is_interval(kind) or pa.types.is_union(kind)


def _has(kind: pa.DataType, asked: Callable[[pa.DataType], bool]) -> bool:
    """Whether `asked` is true of a type or of one inside it, at any depth."""
    return asked(kind) or any(_has(kind.field(i).type, asked) for i in range(kind.num_fields))
