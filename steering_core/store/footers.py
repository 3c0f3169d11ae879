"""Footers: whether a Parquet file says of itself that it is one of its table's, without its rows being read."""

import functools
import re
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from steering_core.foundation.keys import KEY_LENGTH
from steering_core.store.folder import Folder
from steering_core.store.names import PIN
from steering_core.store.tables import TABLES

_NAME = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}\.parquet")


def pin_content(table: str) -> bytes:
    """A Parquet file of no rows, with the table's schema."""
    return _no_rows(TABLES[table].schema)


@functools.cache  # it is the same for every store
def _no_rows(schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def suspect(folder: Folder, table: str, name: str) -> bool:
    """Whether a file of a table is not what its footer and its name should say, and is to be read whole.

    A file that is gone is not, nor is one that has more columns than this version knows. DuckDB reads a file of other
    columns as rows of nulls, and a second copy of one as more rows, without a word.
    """
    path = PurePosixPath(name)
    if path.suffix != ".parquet":  # no query reads it
        return False
    try:
        with folder.open(name) as handle:
            if path.name == PIN and handle.read() == pin_content(table):  # as nearly every one is
                return False
            footer = pq.read_metadata(handle)
            known = [field for field in footer.schema.to_arrow_schema() if field.name in TABLES[table].schema.names]
            misfits = misfit(pa.schema(known), table) is not None  # a later version may have written more columns
    except FileNotFoundError:
        return False
    except (OSError, pa.ArrowException):
        return True
    if path.name == PIN:
        return misfits or footer.num_rows > 0
    return misfits or footer.num_rows == 0 or not _NAME.fullmatch(path.name) or _has_nulls(footer, table)


def _has_nulls(footer: pq.FileMetaData, table: str) -> bool:
    """Whether there is, or may be, a null in a column that no row leaves empty."""
    names = [footer.schema.column(i).path.split(".")[0] for i in range(footer.num_columns)]
    filled = [i for i, name in enumerate(names) if name in TABLES[table].filled]
    for group in range(footer.num_row_groups):
        for column in filled:
            said = footer.row_group(group).column(column).statistics
            if said is None or not said.has_null_count or said.null_count:
                return True
    return False


def misfit(found: pa.Schema, table: str) -> str | None:
    """Why columns are not those of a table; None where they are. Numbers may be wider, and all but the key may lack."""
    schema = TABLES[table].schema
    if strange := set(found.names) - set(schema.names):
        return f"columns that {table} does not have: {', '.join(sorted(strange))}"
    if lacking := set(TABLES[table].key) - set(found.names):
        return f"no column {', '.join(sorted(lacking))}"
    for field in found:
        wanted = schema.field(field.name).type
        if field.type != wanted and _kind(field.type) not in (_kind(wanted), "null"):
            return f"the column {field.name} holds {field.type}, not {wanted}"
    return None


def _kind(column: pa.DataType) -> str:
    """What a column holds, whatever its width or unit: text, whole, real, timestamp, …, or lists of them."""
    types = pa.types
    if types.is_list(column) or types.is_large_list(column) or types.is_fixed_size_list(column):
        return f"list of {_kind(column.value_type)}"
    if types.is_dictionary(column):
        return _kind(column.value_type)
    if types.is_integer(column):
        return "whole"
    if types.is_floating(column):
        return "real"
    return "text" if types.is_string(column) or types.is_large_string(column) else str(column).partition("[")[0]
