"""Ask: one SELECT over the views, its answer as JSON or a file, and the named queries as examples."""

import functools
from importlib.resources import files as package_files
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import JSONResponse, Response

from steering_core.explorer.ask import CUT, MAX_DOWNLOAD_ROWS, MAX_ROWS
from steering_core.explorer.fields import Whole
from steering_core.explorer.state import Here
from steering_core.foundation.validation import Strict
from steering_core.store.queries import description, named_query

router = APIRouter(tags=["ask"])
KINDS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


class SqlQuery(Strict):
    """A SELECT over the store's views."""

    sql: Annotated[str, Field(min_length=1, max_length=20_000)]
    max_rows: Annotated[Whole, Field(ge=1, le=MAX_ROWS)] = 200


class Download(Strict):
    """A SELECT, and the form in which to hand over its rows."""

    sql: Annotated[str, Field(min_length=1, max_length=20_000)]
    format: Literal["csv", "parquet"]


@router.post("/sql", response_class=JSONResponse)
def sql(question: SqlQuery, here: Here) -> Response:
    """Rows of one SELECT, their columns and types; `cut` says that there were more than `max_rows`."""
    _, content = here.ask.written(question.sql, "json", question.max_rows)
    return Response(content, media_type="application/json")


@router.post("/sql/download", response_class=Response)
def download(wanted: Download, here: Here) -> Response:
    """The rows of one SELECT as a file; the header `x-steerflow-cut` says how many they are where there were more."""
    cut, content = here.ask.written(wanted.sql, wanted.format, MAX_DOWNLOAD_ROWS)
    headers = {"content-disposition": f'attachment; filename="steerflow.{wanted.format}"'}
    headers |= {CUT: str(MAX_DOWNLOAD_ROWS)} if cut else {}
    return Response(content, media_type=KINDS[wanted.format], headers=headers)


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


def _described(name: str, sql: str) -> dict[str, Any]:
    says, parameters = description(sql)
    return {"name": name, "says": says, "sql": sql, "parameters": parameters}
