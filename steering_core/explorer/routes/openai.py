"""The OpenAI-compatible endpoints: existing clients talk to a steered model, through an extra `steering` field.

client.chat.completions.create(
    model="smollm2-135m",
    messages=[{"role": "user", "content": "How was your day?"}],
    extra_body={"steering": {"vectors": [{"vector": "sentiment", "dose": 0.4}]}},
)
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import JSONResponse, Response

from steering_core.engine.sampling import Request as Row
from steering_core.explorer.batches import Event, Rows, Sampling
from steering_core.explorer.fields import Flag, ModelName, Real, Whole
from steering_core.explorer.planned import MAX_TEXT, MAX_TOKENS, Steering, planned
from steering_core.explorer.sse import event_stream
from steering_core.explorer.state import Here, sampled
from steering_core.models import Model
from steering_core.prompts import Prompt, conversation, prompt
from steering_core.spec import TemplateArguments

router = APIRouter(tags=["openai"])
MAX_CHOICES = 16
MAX_MESSAGES = 200
FINISH = {"stop": "stop", "length": "length", "diverged": "content_filter"}
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class Part(BaseModel):
    """A piece of a message; text alone is understood."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=50)]

    def plain(self) -> dict[str, str]:
        """The message as chat templates want it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class Completion(BaseModel):
    """What both endpoints take. Fields that change nothing here (user, metadata, …) are let through unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelName
    steering: Steering = Steering()
    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[Real, Field(ge=0, le=5)] | None = None
    top_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Annotated[str, Field(min_length=1, max_length=100)] | Annotated[list[str], Field(max_length=8)] | None = None
    stream: Flag | None = None
    stream_options: Annotated[dict[str, Any], Field(max_length=16)] | None = None
    tools: Any = None
    logprobs: Any = None
    logit_bias: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    response_format: Any = None
    echo: Flag | None = None

    @field_validator("top_p")
    @classmethod
    def _whole(cls, top_p: float | None) -> float | None:
        if top_p not in (None, 1):
            raise ValueError("only 1 is possible: texts are drawn from the whole distribution")
        return top_p

    @field_validator("stop")
    @classmethod
    def _few(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and any(not 0 < len(text) <= 100 for text in stop):
            raise ValueError("at most 8 strings of 1 to 100 characters")
        return stop

    @field_validator(
        "tools", "logprobs", "logit_bias", "frequency_penalty", "presence_penalty", "response_format", "echo"
    )
    @classmethod
    def _not_here(cls, value: Any) -> Any:
        if value and value != {"type": "text"}:
            raise ValueError("is not supported here")
        return value

    @property
    def sampling(self) -> Sampling:
        """How the texts are drawn; temperature 1 where none is given, as OpenAI has it."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        longest = self.max_completion_tokens or self.max_tokens or 256
        return Sampling(self.model, longest, 1.0 if self.temperature is None else self.temperature, stop)


class ChatCompletion(Completion):
    """A conversation to go on with."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    chat_template_kwargs: TemplateArguments = {}


class TextCompletion(Completion):
    """A text to go on with."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


@router.get("/models")
def models(here: Here) -> dict[str, Any]:
    """The models that a request may name."""
    listed = [
        {"id": n, "object": "model", "created": 0, "owned_by": "steerflow"} for n in here.accelerator.models.known()
    ]
    return {"object": "list", "data": listed}


@router.post("/chat/completions", response_class=JSONResponse)
async def chat(wanted: ChatCompletion, here: Here, request: Request) -> Response:
    """Go on with a conversation, steered."""
    messages = [message.plain() for message in wanted.messages]

    def read(model: Model) -> Prompt:
        return conversation(model, messages, wanted.chat_template_kwargs)

    return await _complete(wanted, here, request, read, _Chat())


@router.post("/completions", response_class=JSONResponse)
async def completions(wanted: TextCompletion, here: Here, request: Request) -> Response:
    """Go on with a text, steered."""
    return await _complete(wanted, here, request, lambda model: prompt(model, wanted.prompt, chat=False), _Plain())


class _Chat:
    """The forms of a chat completion."""

    id, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}

    def delta(self, text: str, first: bool) -> dict[str, Any]:
        return {"delta": {"role": "assistant", "content": text} if first else {"content": text}}


class _Plain:
    """The forms of a text completion."""

    id, whole, part = "cmpl", "text_completion", "text_completion"

    def choice(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def delta(self, text: str, first: bool) -> dict[str, Any]:
        return {"text": text}


async def _complete(
    wanted: Completion, here: Here, request: Request, read: Callable[[Model], Prompt], form: _Chat | _Plain
) -> Response:
    def rows(model: Model) -> Rows:
        tokens = read(model).tokens
        intervention = planned(model, here.store, here.drafts, wanted.steering).intervention
        seed = secrets.randbits(31) if wanted.seed is None else wanted.seed % 2**32
        requests = [Row(tokens, intervention, (seed + i) % 2**32) for i in range(wanted.n or 1)]
        return Rows(requests, about={"prompt_tokens": len(tokens), "model_id": model.identity.model_id})

    head = {"id": f"{form.id}-{secrets.token_hex(12)}", "created": int(time.time()), "model": wanted.model}
    events = await sampled(here, request, wanted.sampling, rows)
    if wanted.stream:
        return event_stream(_chunks(events, {**head, "object": form.part}, wanted, form))
    return await _whole(events, {**head, "object": form.whole}, form)


async def _whole(events: AsyncIterator[Event], head: dict[str, Any], form: _Chat | _Plain) -> Response:
    texts: dict[int, list[str]] = {}
    finishes: dict[int, str] = {}
    usage = _usage(0, 0)
    prompt_tokens = 0
    async for event in events:
        if event["event"] == "error":
            return JSONResponse(_error(event), status_code=400)
        if event["event"] == "start":
            prompt_tokens = event["prompt_tokens"]
            head["system_fingerprint"] = event["model_id"]
        elif event["event"] == "token":
            texts.setdefault(event["row"], []).append(event["text"])
            finishes[event["row"]] = FINISH[event["finish"] or "length"]
        elif event["event"] == "done":
            usage = _usage(prompt_tokens, sum(event["tokens"]))
    choices = [
        {"index": row, **form.choice("".join(texts[row])), "finish_reason": finishes[row], "logprobs": None}
        for row in sorted(texts)
    ]
    return JSONResponse({**head, "choices": choices, "usage": usage})


async def _chunks(
    events: AsyncIterator[Event], head: dict[str, Any], wanted: Completion, form: _Chat | _Plain
) -> AsyncIterator[Any]:
    begun: set[int] = set()
    prompt_tokens = 0
    async for event in events:
        if event["event"] == "error":
            yield _error(event)
        elif event["event"] == "start":
            prompt_tokens = event["prompt_tokens"]
            head["system_fingerprint"] = event["model_id"]
        elif event["event"] == "token":
            row, finish = event["row"], event["finish"]
            delta = form.delta(event["text"], row not in begun)
            begun.add(row)
            choice = {"index": row, **delta, "finish_reason": FINISH[finish] if finish else None, "logprobs": None}
            yield {**head, "choices": [choice]}
        elif event["event"] == "done" and (wanted.stream_options or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": _usage(prompt_tokens, sum(event["tokens"]))}
    yield "[DONE]"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _error(event: Event) -> dict[str, Any]:
    return {"error": {"message": event["message"], "type": "invalid_request_error", "code": event["type"]}}
