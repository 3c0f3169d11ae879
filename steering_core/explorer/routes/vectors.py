"""Library: what there is to steer with, what the accelerator is doing, and what the page must know of the server."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from steering_core.concepts import available_concepts
from steering_core.explorer.fields import MAX_VECTORS, ModelField
from steering_core.explorer.shield import TOKEN_FROM
from steering_core.explorer.state import Here, called, rows_of
from steering_core.foundation.json_values import plain
from steering_core.store.queries import named_query

router = APIRouter(tags=["library"])


@router.get("/models")
def models(here: Here) -> list[dict[str, Any]]:
    """Models that a request may name, with what the store knows of them."""
    loaded = here.accelerator.models.loaded()
    known = here.kept.of("models", here.accelerator.models.known)
    return [{**plain(row), "loaded": name in loaded} for name, row in known.items()]


@router.get("/page")
async def page(here: Here) -> dict[str, Any]:
    """What the page must know of this server.

    `token_from` is the variable that copied code reads the token from, `most_vectors` how many may steer, and how many
    may read along.
    """
    return {"token_from": TOKEN_FROM if here.wants_token else None, "most_vectors": MAX_VECTORS}


@router.get("/vectors")
async def vectors(model: ModelField, here: Here, request: Request) -> list[dict[str, Any]]:
    """The library's vectors of one model as it is now, with their recommended dose and measured safe range."""
    model_id = await called(here, request, model, lambda opened: opened.identity.model_id)
    return rows_of(await run_in_threadpool(here.ask.own, named_query("vectors_of_model"), [model_id]))


@router.get("/concepts")
def concepts(here: Here) -> list[dict[str, Any]]:
    """Concepts of the store, then those that come with steerflow and were not run yet."""
    stored = rows_of(
        here.ask.own("SELECT name, description, chat, n_pairs, concept_id FROM raw.concepts ORDER BY name")
    )
    there = {row["name"] for row in stored}
    return [*stored, *({"name": name, "concept_id": None} for name in available_concepts() if name not in there)]


@router.get("/status")
def status(here: Here) -> dict[str, Any]:
    """The store's folder name, and what the accelerator is doing."""
    return {"store": str(here.store.root).rpartition("/")[2], **here.accelerator.state()}
