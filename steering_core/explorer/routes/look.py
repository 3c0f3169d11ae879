"""Look: the evidence, as rows of the named queries and as charts drawn from them."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from steering_core.charts import explorer as charts
from steering_core.errors import QueryError
from steering_core.explorer.routes.ask import named_queries
from steering_core.explorer.state import Here, rows_of
from steering_core.library import did_you_mean

router = APIRouter(tags=["look"])

CHARTS: dict[str, tuple[str, Callable[[charts.Rows], charts.Drawing]]] = {
    "layer_by_dose": ("layer_by_dose", charts.layer_by_dose),
    "dose_response": ("dose_response_of_concept", charts.dose_response),
    "similarity": ("vector_similarity", charts.similarity),
}


@router.get("/rows/{name}")
def rows(name: str, here: Here, request: Request) -> list[dict[str, Any]]:
    """The rows of a named query; its parameters come by their names (/queries lists them)."""
    return _rows(here, name, dict(request.query_params))


@router.get("/charts/{name}")
def chart(name: str, here: Here, request: Request) -> dict[str, Any]:
    """A chart as Vega-Lite, drawn from its named query with the parameters given; null where it has no rows."""
    if name not in CHARTS:
        raise QueryError(f"there is no chart {name!r}: {did_you_mean(name, CHARTS)}")
    query, draw = CHARTS[name]
    found = _rows(here, query, dict(request.query_params))
    return {"chart": json.loads(draw(found).to_json()) if found else None, "rows": len(found)}


def _rows(here: Here, name: str, given: dict[str, str]) -> list[dict[str, Any]]:
    known = named_queries()
    if name not in known:
        raise QueryError(f"there is no query {name!r}: {did_you_mean(name, known)}")
    query = known[name]
    if missing := [p for p in query["parameters"] if p not in given]:
        raise QueryError(f"the query {name} wants {', '.join(missing)} too")
    values = [int(v) if (v := given[p]).lstrip("-").isdecimal() else v for p in query["parameters"]]
    return rows_of(here.ask.own(query["sql"], values))
