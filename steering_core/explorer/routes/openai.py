"""The OpenAI-compatible endpoints: existing clients talk to a steered model, through an extra `steering` field.

client.chat.completions.create(
    model="smollm2-135m",
    messages=[{"role": "user", "content": "How was your day?"}],
    extra_body={"steering": {"vectors": [{"vector": "sentiment", "dose": 0.3}]}},
)
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from steering_core.engine.echo import not_read, prompt_log_probabilities
from steering_core.engine.grammar import Grammar, json_grammar
from steering_core.engine.sampling import Request as Row
from steering_core.explorer.batches import BatchSampling, Event, RequestedRows, told_token
from steering_core.explorer.faults import told, with_errors
from steering_core.explorer.openai.answer import Answer
from steering_core.explorer.openai.answer_forms import AnswerForm, ChatForm, TextForm
from steering_core.explorer.openai.fields import ChatCompletion, Completion, TextCompletion
from steering_core.explorer.openai.names import listed, steered_name
from steering_core.explorer.planned import PlannedSteering, named_vectors, planned
from steering_core.explorer.sse import event_stream
from steering_core.explorer.state import Explorer, Here, rows_of, sampled
from steering_core.explorer.watching import watched
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import VectorNotFound
from steering_core.interventions.change import Intervention
from steering_core.models import Model, ModelIdentity
from steering_core.prompts import Prompt, conversation, given_tokens, prompt
from steering_core.store.queries import named_query
from steering_core.vectors.library import WantedLayers
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

router = APIRouter(tags=["openai"])
UNREAD = "x-steerflow-ignored"  # the header that names fields which change nothing
_NAMES = 20  # that it names
WARNED = "x-steerflow-warning"  # the header that says what is likely unwanted; streams say it in every part

_UNREAD_STEERING = (
    "steering in the phase generation acts on no token of the prompt: their log-probabilities are the untouched "
    "model's; steer in the phase all (@all)"
)


@router.get("/models")
def models(here: Here) -> dict[str, Any]:
    """The models that a request may name, and each with each vector of its library."""
    vectors = rows_of(here.ask.own(named_query("steered_models")))
    names = listed(here.accelerator.models.known(), vectors)
    return {"object": "list", "data": [_model(name) for name in names]}


@router.get("/models/{name:path}")
def model(name: str, here: Here) -> dict[str, Any]:
    """One model, with the vectors in its name; a client may ask whether they are there. Loads nothing."""
    known = here.accelerator.models.known()
    found, steering = steered_name(name, known, PlannedSteering())
    here.accelerator.models.check(found)
    if steering.expression:
        _check_stored(here, known[found], steering.expression)
    return _model(name)


def _check_stored(here: Explorer, row: dict[str, Any], expression: str) -> None:
    """Raise for vectors that the library lacks for the model of that row, as the store knows it."""
    if "model_id" not in row:
        raise VectorNotFound(
            f"the store {here.store.root} has no vector of {row['name']}: it knows nothing of that model"
        )
    identity = ModelIdentity(**row)

    def find(name: str) -> tuple[Vector, ...]:
        """The vectors of a name, at the layers that were recommended."""
        return named_vectors(identity, here.store, here.drafts, name)

    resolved(expression, find, identity.n_layers)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "steerflow"}


@router.post("/chat/completions", response_class=JSONResponse)
async def chat(wanted: ChatCompletion, here: Here, request: Request) -> Response:
    """Go on with a conversation, steered."""
    messages, tools = [message.plain() for message in wanted.messages], wanted.offered

    def read(model: Model) -> list[Prompt]:
        """The conversation as one prompt, through the model's chat template."""
        return [conversation(model, messages, wanted.chat_template_kwargs, tools)]

    return await _complete(wanted, here, request, _CompletionPlan(read, ChatForm(), tools))


@router.post("/completions", response_class=JSONResponse)
async def completions(wanted: TextCompletion, here: Here, request: Request) -> Response:
    """Go on with a text or with several, steered."""

    def read(model: Model) -> list[Prompt]:
        """Each text or list of tokens as a prompt, without a chat template."""
        return [
            prompt(model, text, chat=False)
            if isinstance(text, str)
            else replace(given_tokens(model, text), text=model.text(text))
            for text in wanted.prompts
        ]

    return await _complete(wanted, here, request, _CompletionPlan(read, TextForm(), echo=bool(wanted.echo)))


@dataclass(frozen=True)
class _CompletionPlan:
    """How a request's prompts are read, in which form it is answered, and what else it brings."""

    read: Callable[[Model], list[Prompt]]
    form: AnswerForm
    tools: Sequence[dict[str, Any]] = ()
    echo: bool = False


async def _complete(wanted: Completion, here: Explorer, request: Request, asked: _CompletionPlan) -> Response:
    name, steering = wanted.model, wanted.steering
    if "+" in name:
        known = await run_in_threadpool(here.accelerator.models.known)
        name, steering = steered_name(name, known, steering)
    answers: list[Answer] = []

    def rows(model: Model) -> RequestedRows:
        """The rows to sample: `n` for each prompt, seeds counted up from the request's."""
        prompts = asked.read(model)
        intervention = _intervention(model, here, steering)
        readers = watched(model, here, wanted.probes)
        seed = secrets.randbits(31) if wanted.seed is None else wanted.seed % 2**32
        recipe = replace(wanted.recipe, grammar=_grammar(model, wanted))
        _check_biases(model, recipe.logit_bias)
        requests: list[Row] = []
        echoed = {one.tokens: _echoed(model, one, intervention, wanted, asked.echo) for one in prompts}
        for one in prompts:
            for _ in range(wanted.n or 1):
                row = len(requests)
                logprobs = wanted.likeliest
                requests.append(Row(one.tokens, intervention, (seed + row) % 2**32, recipe=recipe, logprobs=logprobs))
                answers.append(Answer(model, asked.form, row, asked.tools, *echoed[one.tokens], readers))
        about = {"prompt_tokens": sum(len(one.tokens) for one in prompts), "model_id": model.identity.model_id}
        read = asked.echo and wanted.likeliest is not None
        about["warnings"] = [*intervention.cautions, *([_UNREAD_STEERING] if read and not_read(intervention) else [])]
        return RequestedRows(requests, [one.probe for one in readers], about)

    head = {"id": f"{asked.form.id}-{secrets.token_hex(12)}", "created": int(time.time()), "model": wanted.model}
    sampling: BatchSampling = replace(wanted.sampling, model=name)
    events = with_errors(await sampled(here, request, sampling, rows), here.store.root)
    headers = _unread(wanted)
    start = await _beginning(events)
    if start["event"] == "error":
        return JSONResponse(_error(start), start["status"], headers)
    read = start["prompt_tokens"]
    head |= _about(start)
    headers |= _named(WARNED, start["warnings"])
    if wanted.stream:
        head["object"] = asked.form.part
        usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
        parts = with_errors(_parts(events, head, answers, read, usage), here.store.root)
        return event_stream(_chunks(parts), headers)
    return await _whole(events, {**head, "object": asked.form.whole}, answers, read, headers)


def _echoed(
    model: Model, one: Prompt, intervention: Intervention, wanted: Completion, echo: bool
) -> tuple[str, list[Event] | None]:
    """The text of a prompt that is echoed, and its tokens with their log-probabilities, where those are wanted."""
    if not echo:
        return "", None
    if wanted.likeliest is None:
        return one.text, None
    found = prompt_log_probabilities(model, one.tokens, intervention, wanted.likeliest, Work())
    first, *others = one.tokens
    likely = zip(others, found, strict=True)
    tokens = [told_token(model, first, None), *(told_token(model, token, *of_token) for token, of_token in likely)]
    if not one.text.startswith(tokens[0]["token"]) and first == model.tokenizer.bos_token_id:
        tokens[0]["bytes"] = b""  # the text begins after it
    return one.text, tokens


async def _beginning(events: AsyncIterator[Event]) -> Event:
    """The event with which texts begin, or with which they are refused: a stream's status tells it as any answer's."""
    async for event in events:
        if event["event"] in ("start", "error"):
            return event
    return {"event": "error", "message": "the client has gone", "type": "ClientDisconnect", "status": 499}


async def _whole(
    events: AsyncIterator[Event], head: dict[str, Any], answers: Sequence[Answer], read: int, headers: dict[str, str]
) -> Response:
    counted = {}
    async for event in events:
        if event["event"] == "error":
            return JSONResponse(_error(event), event["status"], headers)
        if event["event"] == "token":
            answers[event["row"]].add(event)
        elif event["event"] == "done":
            counted = _usage(read, sum(event["tokens"]))
    choices = [answer.whole() for answer in answers]
    return JSONResponse({**head, "choices": choices, "usage": counted}, headers=headers)


async def _chunks(parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[Any]:
    """What a stream sends: its parts, an error in OpenAI's own form, and the mark of its end."""
    async for part in parts:
        yield _error(part) if part.get("event") == "error" else part
    yield "[DONE]"


async def _parts(
    events: AsyncIterator[Event], head: dict[str, Any], answers: Sequence[Answer], read: int, usage: bool
) -> AsyncIterator[dict[str, Any]]:
    async for event in events:
        if event["event"] == "error":
            yield event
        elif event["event"] == "token":
            yield {**head, "choices": [answers[event["row"]].add(event)]}
        elif event["event"] == "done":
            for answer in answers:
                if not answer.begun:  # no token was wanted
                    yield {**head, "choices": [answer.whole()]}
            if usage:
                yield {**head, "choices": [], "usage": _usage(read, sum(event["tokens"]))}


def _error(event: Event) -> dict[str, Any]:
    return told(event["message"], event["type"], event["status"])


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _grammar(model: Model, wanted: Completion) -> Grammar | None:
    """What the answers are held to. Raises GrammarError for what they cannot be held to."""
    form = wanted.response_format
    if form is None or form.type == "text":
        return None
    return json_grammar(model, form.json_schema.schema_ if form.json_schema else None)


def _intervention(model: Model, here: Explorer, steering: PlannedSteering) -> Intervention:
    """What is done to the model. The store is asked once for each vector: rows under way wait meanwhile."""

    def named(name: str, layers: WantedLayers) -> tuple[Vector, ...]:
        """A name's vectors, kept between requests."""
        key = ("vector", model.identity.model_id, name, str(layers))
        return here.kept.of(key, lambda: named_vectors(model.identity, here.store, here.drafts, name, layers))

    return planned(model, here.store, here.drafts, steering, named).intervention


def _check_biases(model: Model, biases: Sequence[tuple[int, float]]) -> None:
    given_tokens(model, [token for token, _ in biases] or [0])


def _unread(wanted: Completion) -> dict[str, str]:
    """The header that names what was sent and changes nothing."""
    names = [name[:80] for name in wanted.unread()]
    shown = names[:_NAMES] + [f"and {len(names) - _NAMES} more"] * (len(names) > _NAMES)
    return _named(UNREAD, shown)


def _about(start: Event) -> dict[str, Any]:
    """What every answer and each part of one says of the model, and of steering that is likely unwanted."""
    said = {"steering_warnings": start["warnings"]} if start["warnings"] else {}
    return {"system_fingerprint": start["model_id"], **said}


def _named(header: str, texts: Sequence[str]) -> dict[str, str]:
    """The header, with texts as headers can hold them; none without texts."""
    plain = [text.encode("ascii", "backslashreplace").decode() for text in texts]
    shown = ["".join(letter for letter in text if letter.isprintable()) for text in plain]
    return {header: ", ".join(shown)} if shown else {}
