"""Ask: one SELECT over the views, its answer as JSON or a file, and the named queries as examples."""

import functools
import io
import itertools
import re
from importlib.resources import files as package_files
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from steering_core.explorer.ask import MAX_DOWNLOAD_ROWS, MAX_ROWS
from steering_core.explorer.state import Here, rows_of
from steering_core.reports import named_query
from steering_core.validation import Strict

router = APIRouter(tags=["ask"])
_PARAMETERS = re.compile(r"Parameters?: ([a-z_, ]+)")


class Question(Strict):
    """A SELECT over the store's views."""

    sql: Annotated[str, Field(min_length=1, max_length=20_000)]
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 200


class Download(Strict):
    """A SELECT, and the form in which to hand over its rows."""

    sql: Annotated[str, Field(min_length=1, max_length=20_000)]
    format: Literal["csv", "parquet"]


@router.post("/sql")
def sql(question: Question, here: Here) -> dict[str, Any]:
    """Rows of one SELECT; `cut` says that there were more than `max_rows`."""
    answer = here.ask.answer(question.sql, question.max_rows)
    types = {field.name: str(field.type) for field in answer.rows.schema}
    return {"columns": answer.rows.column_names, "types": types, "rows": rows_of(answer.rows), "cut": answer.cut}


@router.post("/sql/download", response_class=Response)
def download(wanted: Download, here: Here) -> Response:
    """The rows of one SELECT as a file."""
    table = here.ask.answer(wanted.sql, MAX_DOWNLOAD_ROWS).rows
    sink = io.BytesIO()
    if wanted.format == "parquet":
        pyarrow.parquet.write_table(table, sink)
        kind = "application/vnd.apache.parquet"
    else:
        pyarrow.csv.write_csv(_without_lists(table), sink)
        kind = "text/csv; charset=utf-8"
    headers = {"content-disposition": f'attachment; filename="steerflow.{wanted.format}"'}
    return Response(sink.getvalue(), media_type=kind, headers=headers)


@router.get("/queries")
def queries() -> list[dict[str, Any]]:
    """The named queries: what each answers, its SQL, and the names of its parameters."""
    return list(named_queries().values())


@functools.cache
def named_queries() -> dict[str, dict[str, Any]]:
    """Every named query by its name."""
    folder = package_files("steering_core.store") / "sql" / "queries"
    files = sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))
    return {name: _described(name, named_query(name)) for name in files}


def _described(name: str, text: str) -> dict[str, Any]:
    """A query's opening comment, to its first empty line, says what it answers; then come its parameters."""
    lines = itertools.takewhile(lambda line: line.startswith("--"), text.splitlines())
    said = " ".join(itertools.takewhile(bool, (line.removeprefix("--").strip() for line in lines)))
    named = _PARAMETERS.search(said)
    parameters = [name.strip() for name in named.group(1).split(",")] if named else []
    return {"name": name, "says": _PARAMETERS.sub("", said).strip(" ."), "sql": text, "parameters": parameters}


def _without_lists(table: pa.Table) -> pa.Table:
    """CSV has no lists or structs: they go out as JSON-like text."""
    for i, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            shown = pa.array([None if value is None else str(value) for value in table[column.name].to_pylist()])
            table = table.set_column(i, column.name, shown)
    return table
