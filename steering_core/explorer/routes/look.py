"""Look: the evidence, as rows of the named queries and as charts drawn from them."""

import re
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from steering_core.explorer.ask import CUT
from steering_core.explorer.batches import Event
from steering_core.explorer.cell_texts import CellTexts, cell_texts
from steering_core.explorer.faults import with_errors
from steering_core.explorer.fields import Key, ModelField, VectorField
from steering_core.explorer.planned import named_vectors
from steering_core.explorer.routes.ask import named_queries
from steering_core.explorer.sse import event_stream
from steering_core.explorer.state import Explorer, Here, called, rows_of
from steering_core.foundation.errors import QueryError
from steering_core.foundation.keys import KEY_LENGTH
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.validation import Strict
from steering_core.foundation.words import columns, glossary
from steering_core.models import Model
from steering_core.reports.charts.listed import CHARTS, charts_in, not_drawn
from steering_core.reports.unfinished import stored_so_far
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers
from steering_core.spec import ScoresSpec
from steering_core.store import values as stored
from steering_core.store.commands import at_store
from steering_core.vectors.meaning import PromotedTokens, promoted_tokens

router = APIRouter(tags=["look"])

_BOUNDS = ScoresSpec()
MAX_VALUE = 1_000  # letters of a parameter
DEFAULTS = {  # of the queries' parameters
    "max_perplexity_ratio": _BOUNDS.max_perplexity_ratio,
    "max_kl": _BOUNDS.max_kl,
    "how many high": 6,
    "how many low": 6,
}


@router.get("/look", response_class=JSONResponse)
def look(here: Here, model: ModelField | None = None) -> Response:
    """What the page shows at once: recommendations, runs, the leaderboard, and the first recommendation's heat map.

    Before the first recommendation, `so_far` says what runs have stored. `leaderboard_cut` says that the leaderboard
    has more rows in the store.

    The first is the best of `model`; where there is no such model, of the first that is known.
    """
    return Response(at_once(here, model), media_type="application/json")


def at_once(here: Explorer, model: str | None = None) -> bytes:
    """The answer of /look, as JSON."""
    known = here.kept.of("models", here.accelerator.models.known)
    mine = model if model in known else next(iter(known))
    return here.kept.of(("look", mine), lambda: bytes(JSONResponse(_at_once(here, mine)).body))


def _at_once(here: Explorer, model: str) -> dict[str, Any]:
    recommended = _rows(here, "recommended", {})
    first = next((row for row in recommended if row["model"] == model), recommended[0] if recommended else None)
    ids = {key: str(first[key]) for key in ("model_id", "concept_id")} if first else {}
    board, cut = _rows_and_cut(here, "leaderboard", {})
    return {
        "recommended": _in_words(here, recommended),
        "runs": _rows(here, "run_history", {}),
        "leaderboard": board,
        "leaderboard_cut": cut,
        "so_far": "" if recommended else stored_so_far(lambda sql: rows_of(here.ask.own(sql))),
        "first": {**ids, "layer_by_dose": _chart(here, "layer_by_dose", ids)} if ids else None,
    }


def _in_words(here: Explorer, recommended: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with what reports say of it: `says`, a plain sentence, and `numbers`."""
    ids = [row["recommendation_id"] for row in recommended]
    whole = stored.rows_of(here.ask.own("FROM recommendations WHERE list_contains(?, recommendation_id)", [ids]))
    words = {r["recommendation_id"]: {"says": plain_verdict(r), "numbers": verdict_in_numbers(r)} for r in whole}
    nothing = {"says": "", "numbers": ""}  # of a row without a key, which another program wrote
    return [row | words.get(row["recommendation_id"], nothing) for row in recommended]


@router.get("/rows/{name}")
def rows(name: str, here: Here, request: Request, response: Response) -> list[dict[str, Any]]:
    """The rows of a named query; its parameters come by their names (/queries lists them).

    The header `x-steerflow-cut` says how many they are where there were more.
    """
    found, cut = _rows_and_cut(here, name, dict(request.query_params))
    if cut:
        response.headers[CUT] = str(len(found))
    return found


@router.get("/charts/{name}")
def chart(name: str, here: Here, request: Request) -> dict[str, Any]:
    """A chart as Vega-Lite, drawn from its named query with the parameters given; null where it has no rows.

    `not_drawn` is a sentence about candidates that the chart has no place for.
    """
    if name not in charts_in("explorer"):
        raise QueryError(f"there is no chart {name!r}: {did_you_mean(name, charts_in('explorer'))}")
    return _chart(here, name, dict(request.query_params))


def _chart(here: Explorer, name: str, given: dict[str, str]) -> dict[str, Any]:
    chosen = CHARTS[name]
    found = _rows(here, chosen.query, given)
    if not found:
        return {"chart": None, "rows": 0, "not_drawn": ""}
    drawing = chosen.drawn(found, DEFAULTS).to_dict(validate=False)
    missing = not_drawn(chosen, lambda query: _rows(here, query, given))
    return {"chart": drawing, "rows": len(found), "not_drawn": missing}


def _rows(here: Explorer, name: str, given: dict[str, str]) -> list[dict[str, Any]]:
    return _rows_and_cut(here, name, given)[0]


def _rows_and_cut(here: Explorer, name: str, given: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a named query, and whether there were more."""
    known = named_queries()
    if name not in known:
        raise QueryError(f"there is no query {name!r}: {did_you_mean(name, known)}")
    query = known[name]
    if missing := [p for p in query["parameters"] if p not in given and p not in DEFAULTS]:
        raise QueryError(f"the query {name} wants {', '.join(missing)} too")
    if long := [p for p in query["parameters"] if len(given.get(p, "")) > MAX_VALUE]:
        raise QueryError(f"{long[0]} has {len(given[long[0]]):,} letters: give at most {MAX_VALUE}")
    values = [_value(given.get(p, DEFAULTS.get(p))) for p in query["parameters"]]
    return here.kept.of((name, *values), lambda: _asked(here, query["sql"], values))


def _asked(here: Explorer, sql: str, values: Sequence[Any]) -> tuple[list[dict[str, Any]], bool]:
    answer = here.ask.own_answer(sql, values)
    return rows_of(answer.rows), answer.cut


def _value(given: str | float | None) -> str | float | None:
    """A query string's value as SQL takes it; keys are hexadecimal and may look like numbers, so they stay text."""
    if isinstance(given, str) and len(given) < KEY_LENGTH and re.fullmatch("-?[0-9]+", given):
        return int(given)
    return given


class HeatMapCell(Strict):
    """A cell of the heat map whose texts are wanted."""

    model: ModelField
    concept_id: Key
    intervention_id: Key


@router.post("/texts", response_class=StreamingResponse)
async def texts(wanted: HeatMapCell, here: Here, request: Request) -> StreamingResponse:
    """Sample a cell's texts into the store, as server-sent events: `sampled` (done, of: prompts), or `error`.

    Others' texts go on after every few prompts.
    """
    found = await called(here, request, wanted.model, partial(_cell_texts, here, wanted))

    async def sampled() -> AsyncIterator[Event]:
        """An event whenever some prompts are answered."""
        done, of = 0, sum(map(len, found.parts))
        for prompts in found.parts:
            if await request.is_disconnected():
                return
            await called(here, request, wanted.model, partial(_sample, here, found, prompts))
            done += len(prompts)
            yield {"event": "sampled", "done": done, "of": of}

    return event_stream(with_errors(sampled(), here.store.root))


def _cell_texts(here: Explorer, wanted: HeatMapCell, model: Model) -> CellTexts:
    return cell_texts(model, here.store, wanted.concept_id, wanted.intervention_id)


def _sample(here: Explorer, texts: CellTexts, prompts: Sequence[str], model: Model) -> int:
    return texts.sample(model, here.store, prompts)


@router.get("/commands")
async def commands(here: Here) -> dict[str, str]:
    """The commands that the page names, each with the store that it shows, where that is not the usual one."""
    named = {"run": "steer run SPEC.yaml", "gate": "steer vectors gate NAME"}
    return {name: at_store(command, here.store.root) for name, command in named.items()}


@router.get("/words")
async def words() -> dict[str, str]:
    """What the words and columns that the page shows mean."""
    return {**columns(), **glossary()}


@router.get("/promoted")
async def promoted(model: ModelField, vector: VectorField, here: Here, request: Request) -> list[dict[str, Any]]:
    """The tokens that a vector of the library promotes and suppresses most, through the model's unembedding."""

    def found(opened: Model) -> PromotedTokens:
        """The promoted tokens, asked on the accelerator's thread."""
        return promoted_tokens(opened, named_vectors(opened.identity, here.store, here.drafts, vector)[:1], k=12)[0]

    tokens = await called(here, request, model, found)
    sides = (("promoted", tokens.promoted), ("suppressed", tokens.suppressed))
    return [{"side": side, "token": text, "logit": logit} for side, pairs in sides for text, logit in pairs]
