"""Rows of a query as an Arrow table, in which every column says what its values are."""

import duckdb
import pyarrow as pa

_AS_TEXT = ("BIT", "BIGNUM", "GEOMETRY", "VARIANT", "TIME WITH TIME ZONE")
"""DuckDB's types that Arrow has no form for: their values would be bytes of DuckDB's own, or times without a zone."""


def arrow_rows(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """The rows of a relation, their columns told apart: a second column `a` is `a_1`.

    Whole numbers that DuckDB makes decimals of, as the sum of a column, are int64 where all of them fit.
    """
    if len(set(relation.columns)) < len(relation.columns):
        relation = relation.select("*")
    types = list(map(str, relation.types))
    if set(types) & set(_AS_TEXT):
        names = [duckdb.ColumnExpression(name) for name in relation.columns]
        shown = [name.cast("VARCHAR") if kind in _AS_TEXT else name for name, kind in zip(names, types, strict=True)]
        relation = relation.select(*[one.alias(name) for one, name in zip(shown, relation.columns, strict=True)])
    table = relation.to_arrow_table()
    for i, field in enumerate(table.schema):
        if pa.types.is_decimal128(field.type) and field.type.scale == 0:
            table = _whole(table, i)
    return table


def _whole(table: pa.Table, place: int) -> pa.Table:
    """The table with a column of decimals as int64; as it is where one is too large."""
    try:
        return table.set_column(place, table.field(place).name, table.column(place).cast(pa.int64()))
    except pa.ArrowInvalid:
        return table
