"""Values of tables as Python has them, where Python has them: times without end or beyond its years are text.

A store that somebody else wrote may also hold anything in a column of JSON.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.foundation.errors import StoreDamaged
from steering_core.foundation.validation import shown


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; its times as text where Python has no value for one, infinite or beyond its years."""
    try:
        found: list[Any] = column.to_pylist()
    except OverflowError:
        without_zone = column.cast(_mapped(column.type, _zoneless))  # Arrow counts years amiss with a zone
        found = without_zone.cast(_mapped(column.type, lambda _: pa.string())).to_pylist()
    return found


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as dicts, with values as `values_of` has them. Its columns have one name each."""
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except OverflowError:
        columns = [values_of(column) for column in table.columns]
        rows = [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows


def stored_object(column: str, text: Any) -> dict[str, Any]:
    """The object that a value of a column of JSON holds. Raises StoreDamaged, naming the column, for anything else."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StoreDamaged(
            f"{column} holds {shown(text)}, where steerflow writes a JSON object: another program wrote this store, "
            "name another (--store, store=)"
        )
    return found


def stored_direction(vector_id: str, numbers: Any, residual_norm: float) -> np.ndarray:
    """The direction of a row of `vectors`, float32, which doses in parts of `residual_norm` can scale.

    Raises StoreDamaged where it has no length, or where one of its numbers or `residual_norm` is none.
    """
    direction = np.asarray(numbers, np.float32)
    if np.isfinite(direction).all() and direction.any() and 0 < residual_norm < math.inf:
        return direction
    raise StoreDamaged(
        f"raw.vectors holds {len(direction)} numbers under {shown(vector_id)}, of length {np.linalg.norm(direction):g} "
        f"beside a residual_norm of {residual_norm:g}, where steerflow writes a direction: another program wrote this "
        "store, name another (--store, store=)"
    )


def _zoneless(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind


def _mapped(kind: pa.DataType, of_time: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """`kind` with `of_time` of each date or timestamp in it, at any depth."""
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return of_time(kind)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_mapped(field.type, of_time)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_mapped(kind.key_type, of_time), _mapped(kind.item_type, of_time))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_mapped(kind.value_type, of_time)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_mapped(kind.value_type, of_time)))
    return kind
