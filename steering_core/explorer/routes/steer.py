"""Steer: stream base and steered text, type a contrast, save what it found."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import StreamingResponse

from steering_core.explorer.batches import Event, RequestedRows
from steering_core.explorer.command import command
from steering_core.explorer.copied_spec import copied_spec
from steering_core.explorer.drafts import DraftContrast
from steering_core.explorer.faults import with_errors
from steering_core.explorer.fields import Key, ModelField
from steering_core.explorer.planned import SteerRequest, rows
from steering_core.explorer.sse import event_stream
from steering_core.explorer.state import Here, called, sampled
from steering_core.explorer.watching import Readings, watched
from steering_core.foundation.validation import Strict
from steering_core.interventions.declarations import OPERATIONS
from steering_core.models import Model
from steering_core.vectors import saving

router = APIRouter(tags=["steer"])


class ContrastRequest(Strict):
    """A contrast, and the model that reads it."""

    model: ModelField
    contrast: DraftContrast


class SaveRequest(Strict):
    """Drafts to put into the library, under a name."""

    vector_ids: Annotated[tuple[Key, ...], Field(min_length=1, max_length=128)]
    model: ModelField
    name: Annotated[str, Field(min_length=1, max_length=80)]


@router.get("/operations")
async def operations() -> list[dict[str, Any]]:
    """What can be done with a vector: names, the unit of each one's strength, and its slider's range."""
    return [
        {
            "name": operation.name,
            "says": operation.says,
            "unit": "dose" if operation.has_dose else "alpha",
            "least": operation.least,
            "most": operation.most,
            "start": operation.start,
            "step": operation.step,
        }
        for operation in OPERATIONS.values()
    ]


@router.post("/steer", response_class=StreamingResponse)
async def steer(wanted: SteerRequest, here: Here, request: Request) -> StreamingResponse:
    """Stream an answer under steering, and the unsteered one beside it, as server-sent events.

    `queued` (position, 0 is next), `start` (rows, vectors, probes, watched), `token` (row, text, projections, finish),
    `done`, or `error` (message). The last token of a row brings the `verdicts` of what is watched.
    """
    readings: list[Readings] = []

    def made(model: Model) -> RequestedRows:
        """The rows to sample, with a reading for each of them."""
        readers = watched(model, here, wanted.probes)
        readings.extend(Readings(readers) for _ in wanted.rows)
        return rows(model, here.store, here.drafts, wanted, readers)

    texts = await sampled(here, request, wanted.sampling, made)
    return event_stream(with_errors(_judged(texts, readings, len(wanted.probes)), here.store.root))


async def _judged(events: AsyncIterator[Event], readings: Sequence[Readings], n: int) -> AsyncIterator[Event]:
    """The events, with what the last `n` of the projections say of each text at its end."""
    async for event in events:
        if n and event["event"] == "token":
            readings[event["row"]].add(event["projections"][-n:])
            if event["finish"]:
                event = {**event, "verdicts": readings[event["row"]].verdicts}
        yield event


@router.post("/command")
async def as_command(wanted: SteerRequest, here: Here, request: Request) -> dict[str, Any]:
    """The `steer generate` command that draws the same steered text, its words, and the expression that steers it."""
    made = await called(here, request, wanted.model, lambda model: command(model, here.store, here.drafts, wanted))
    return {"line": made.line, "words": made.words, "expression": made.expression}


@router.post("/spec")
async def as_spec(wanted: SteerRequest, here: Here, request: Request) -> dict[str, Any]:
    """A spec that measures the same steering, as YAML, and what no spec can say of the request, a phrase each."""
    made = await called(here, request, wanted.model, lambda model: copied_spec(model, here.store, here.drafts, wanted))
    return {"text": made.text, "left_out": list(made.left_out)}


@router.post("/contrasts")
async def contrasts(wanted: ContrastRequest, here: Here, request: Request) -> list[dict[str, Any]]:
    """The vector of a typed contrast at every layer: drafts, which /vectors saves."""
    vectors = await called(here, request, wanted.model, lambda model: here.drafts.of(model, wanted.contrast))
    return [
        {"vector_id": v.vector_id, "layer": v.layer, "norm": v.norm, "residual_norm": v.residual_norm} for v in vectors
    ]


@router.post("/vectors", status_code=201)
async def save(wanted: SaveRequest, here: Here, request: Request) -> dict[str, Any]:
    """Save drafts into the library under a name."""

    def saved(model: Model) -> None:
        """Store the drafts under their name, beside the model's identity."""
        vectors = here.drafts.found(list(wanted.vector_ids))
        for vector in vectors:
            vector.check(model.identity)
        here.store.append("models", [dataclasses.asdict(model.identity)])
        saving.save(here.store, vectors, wanted.name)

    await called(here, request, wanted.model, saved)
    return {"name": wanted.name, "vector_ids": list(wanted.vector_ids)}
