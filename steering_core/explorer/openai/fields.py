"""What clients of OpenAI's API send, field by field; a field that changes nothing here is named in the answer's header.

Beside OpenAI's own fields stand those of mlx-lm's server (`top_k`, `min_p`, `repetition_penalty`, …), those of vLLM
(`chat_template_kwargs`), and ours: `steering` and `probes`.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steering_core.engine.recipes import CONTEXT, Recipe
from steering_core.explorer.batches import BatchSampling
from steering_core.explorer.fields import Flag, ModelField, ProbeNames, Real, Whole
from steering_core.explorer.planned import PlannedSteering
from steering_core.spec import TemplateArguments

MAX_CHOICES = 16
MAX_MESSAGES = 1_000
MAX_PROMPTS = 64
MAX_TOKENS = 1_000_000  # a model's context ends a text before
MAX_TEXT = 1_000_000  # letters; a request of that size is refused before
NARROWEST = 1e-6  # a top-p that leaves the likeliest token alone: mlx-lm takes 0 as no filter, OpenAI as this
MAX_TOOLS = 128
MAX_BIASES = 1_024
TextField = Annotated[str, Field(max_length=MAX_TEXT)]
NameField = Annotated[str, Field(max_length=300)]
Penalty = Annotated[Real, Field(ge=-100, le=100)]
Context = Annotated[Whole, Field(ge=1, le=MAX_TOKENS)]
TokenId = Annotated[Whole, Field(ge=0, le=10_000_000)]
TokenIdText = Annotated[str, Field(pattern="^[0-9]{1,8}$")]  # JSON's keys are texts
_Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_TOKENS)]
_Given = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
_Several = Annotated[list[_Given], Field(min_length=1, max_length=MAX_PROMPTS)]
Prompts = _Given | _Several | _Tokens | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_PROMPTS)]
Biases = Annotated[dict[TokenIdText, Annotated[Real, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)]
Stop = Annotated[str, Field(min_length=1, max_length=100)]


MAX_KEYS = 1_000  # of one JSON object
Json = Annotated[dict[str, Any], Field(max_length=MAX_KEYS)]
"""A JSON object; what is inside it is bounded by the request's size."""


class Open(BaseModel):
    """Fields that are not known are kept aside, to be named in the answer."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def unread(self, here: str = "") -> Iterator[str]:
        """The names of what was sent and changes nothing, with their places."""
        yield from (f"{here}{name}" for name in self.model_extra or ())
        for name in type(self).model_fields:
            value = getattr(self, name)
            inside = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for place, part in inside:
                if isinstance(part, Open):
                    yield from part.unread(f"{here}{name}." + (f"{place}." if place is not None else ""))


class Part(Open):
    """A piece of a message's content; text alone is understood."""

    type: Literal["text", "input_text", "output_text"]
    text: TextField


class FunctionSpec(Open):
    """What a call names: a function and its arguments, as JSON text or as an object."""

    name: NameField
    arguments: Annotated[TextField | Json, Field(validate_default=True)] = "{}"

    @field_validator("arguments")
    @classmethod
    def _object(cls, arguments: str | dict[str, Any]) -> dict[str, Any]:
        """Templates write arguments down as objects."""
        try:
            found = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        except RecursionError:
            raise ValueError("arguments are nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("arguments are a JSON object")
        return found


class ToolCall(Open):
    """A call that the assistant made in an earlier turn."""

    id: NameField | None = None
    type: Literal["function"] = "function"
    function: FunctionSpec

    def plain(self) -> dict[str, Any]:
        """The call as chat templates want it."""
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(Open):
    """One turn of a conversation. A tool's turn says which call it answers; an assistant's may hold calls."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: TextField | Annotated[list[Part], Field(max_length=50)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: NameField | None = None
    name: NameField | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content is missing: only an assistant's turn with tool_calls has none")
        return self

    def plain(self) -> dict[str, Any]:
        """The message as chat templates want it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        found: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        more = {"tool_call_id": self.tool_call_id, "name": self.name}
        found |= {name: value for name, value in more.items() if value is not None}
        if self.tool_calls:
            found["tool_calls"] = [call.plain() for call in self.tool_calls]
        return found


class ToolFunction(Open):
    """A function that the model may call, with the JSON schema of its arguments."""

    name: NameField
    description: TextField | None = None
    parameters: Json | None = None
    strict: Flag | None = None


class Tool(Open):
    """A tool; functions alone are known."""

    type: Literal["function"]
    function: ToolFunction


class Schema(Open):
    """A JSON schema that an answer must fit."""

    name: NameField | None = None
    schema_: Annotated[Json, Field(alias="schema")]
    strict: Flag | None = None


class ResponseFormat(Open):
    """The form of an answer: free text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @model_validator(mode="after")
    def _with_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema")
        return self


class StreamOptions(Open):
    """What a stream brings beside its pieces."""

    include_usage: Flag = False


class Completion(Open):
    """What both endpoints take."""

    model: ModelField
    steering: PlannedSteering = PlannedSteering()
    probes: ProbeNames = ()
    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[Real, Field(ge=0, le=5)] | None = None
    top_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1, le=MAX_TOKENS)] | None = None
    min_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Real, Field(ge=0, le=100)] | None = None
    repetition_context_size: Context = CONTEXT
    presence_penalty: Penalty | None = None
    presence_context_size: Context = CONTEXT
    frequency_penalty: Penalty | None = None
    frequency_context_size: Context = CONTEXT
    logit_bias: Biases | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    def unread(self, here: str = "") -> Iterator[str]:
        """See Open; and known fields that do nothing beside the others."""
        yield from super().unread(here)
        if self.stream_options and not self.stream:
            yield "stream_options"
        if self.max_tokens and self.max_completion_tokens:
            yield "max_tokens"
        for name in ("repetition", "presence", "frequency"):
            if f"{name}_context_size" in self.model_fields_set and not getattr(self, f"{name}_penalty"):
                yield f"{name}_context_size"

    @property
    def sampling(self) -> BatchSampling:
        """How the texts are drawn; temperature 1 where none is given, as OpenAI has it."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        longest = self.max_completion_tokens or self.max_tokens
        return BatchSampling(self.model, longest, self.heat, stop)

    @property
    def heat(self) -> float:
        """The temperature."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def recipe(self) -> Recipe:
        """How each token is chosen, but for a grammar, which needs the model."""
        return Recipe(
            temperature=self.heat,
            top_p=1.0 if self.top_p is None else self.top_p or NARROWEST,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,  # 0 is off in mlx-lm's server
            repetition_context=self.repetition_context_size,
            presence_penalty=self.presence_penalty or 0.0,
            presence_context=self.presence_context_size,
            frequency_penalty=self.frequency_penalty or 0.0,
            frequency_context=self.frequency_context_size,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
        )

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest tokens each token brings; None where no log-probabilities are wanted."""
        raise NotImplementedError


class ChatCompletion(Completion):
    """A conversation to go on with."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    chat_template_kwargs: TemplateArguments = {}
    logprobs: Flag | None = None
    top_logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none"] | None = None

    def unread(self, here: str = "") -> Iterator[str]:
        """See Completion."""
        yield from super().unread(here)
        if self.top_logprobs and not self.logprobs:
            yield "top_logprobs"

    @property
    def likeliest(self) -> int | None:
        """See Completion."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model hears of."""
        wanted = () if self.tool_choice == "none" else self.tools or ()
        return [tool.model_dump(exclude_none=True) for tool in wanted]


class TextCompletion(Completion):
    """Texts to go on with: one or several, in letters or in tokens."""

    prompt: Prompts
    logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    echo: Flag | None = None

    @property
    def likeliest(self) -> int | None:
        """See Completion."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """The texts, each by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [list(self.prompt)]
        return list(self.prompt)
