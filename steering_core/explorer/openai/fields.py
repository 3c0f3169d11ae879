"""What clients of OpenAI's API send, field by field; a field that changes nothing here is named in the answer's header.

Beside OpenAI's own fields stand those of mlx-lm's server (`top_k`, `min_p`, `repetition_penalty`, …), those of vLLM
(`chat_template_kwargs`), and ours: `steering` and `probes`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from steering_core.engine.recipes import CONTEXT, Recipe
from steering_core.explorer.batches import BatchSampling
from steering_core.explorer.fields import Flag, ModelField, ProbeNames, Real, Whole
from steering_core.explorer.openai.messages import MAX_TEXT, MAX_TOOLS, ChatMessage, Json, NameField, Open, TextField
from steering_core.explorer.planned import PlannedSteering
from steering_core.foundation.validation import shown
from steering_core.spec import TemplateArguments

MAX_CHOICES = 16
MAX_MESSAGES = 1_000
MAX_PROMPTS = 64
MAX_TOKENS = 1_000_000  # a model's context ends a text before
NARROWEST = 1e-6  # a top-p that leaves the likeliest token alone: mlx-lm takes 0 as no filter, OpenAI as this
MAX_BIASES = 1_024
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


def without_nulls(sent: Any) -> Any:
    """A JSON value without the nulls of its objects, at any depth."""
    if isinstance(sent, dict):
        return {name: without_nulls(value) for name, value in sent.items() if value is not None}
    return [without_nulls(value) for value in sent] if isinstance(sent, list) else sent


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

    @field_validator("steering", mode="before")
    @classmethod
    def _steering_without_nulls(cls, sent: Any) -> Any:
        """Null is as absent in the steering as well."""
        return without_nulls(sent)

    def unread(self, here: str = "") -> Iterator[str]:
        """See Open; and known fields that do nothing beside the others."""
        yield from super().unread(here)
        if self.stream_options and not self.stream:
            yield "stream_options"
        if self.max_tokens is not None and self.max_completion_tokens:
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

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _free_choice(cls, sent: Any) -> Any:
        """Nothing holds a model to a call; what does hold an answer is named."""
        if sent not in ("auto", "none", None):
            raise ValueError(
                f"Input should be 'auto' or 'none' (got {shown(sent)}): no model is held to a call, but "
                "response_format holds an answer to a JSON schema, also of a model whose template takes no tools"
            )
        return sent

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
    max_tokens: Annotated[Whole, Field(ge=0, le=MAX_TOKENS)] | None = None
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
