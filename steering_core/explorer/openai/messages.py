"""A conversation as clients of OpenAI's API send it, and what every field of theirs has in common.

Clients send their own history back as they heard it: turns without content, refusals, calls.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_TEXT = 1_000_000  # letters; a request of that size is refused before
MAX_TOOLS = 128
TextField = Annotated[str, Field(max_length=MAX_TEXT)]
NameField = Annotated[str, Field(max_length=300)]

MAX_KEYS = 1_000  # of one JSON object
Json = Annotated[dict[str, Any], Field(max_length=MAX_KEYS)]
"""A JSON object; what is inside it is bounded by the request's size."""


class Open(BaseModel):
    """Fields that are not known are kept aside, to be named in the answer."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, sent: Any) -> Any:
        """What was sent, without the optional fields that are null, which are as absent ones are."""
        if not isinstance(sent, dict):
            return sent
        names = {name: field for own, field in cls.model_fields.items() for name in {own, field.alias or own}}
        optional = {name for name, field in names.items() if not field.is_required()}
        return {name: value for name, value in sent.items() if value is not None or name not in optional}

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
    """A piece of a message's content; text alone is understood, and a refusal is an assistant's text."""

    type: Literal["text", "input_text", "output_text"]
    text: TextField

    @model_validator(mode="before")
    @classmethod
    def _refused(cls, sent: Any) -> Any:
        """A refusal in the form of a text."""
        if isinstance(sent, dict) and sent.get("type") == "refusal" and "refusal" in sent:
            more = {name: value for name, value in sent.items() if name not in ("type", "refusal")}
            return {**more, "type": "output_text", "text": sent["refusal"]}
        return sent


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
    refusal: TextField | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.content is None and self.role != "assistant":
            raise ValueError("content is missing: only an assistant's turn may have none")
        return self

    def unread(self, here: str = "") -> Iterator[str]:
        """See Open; and a refusal beside a content."""
        yield from super().unread(here)
        if self.refusal and self.content:
            yield f"{here}refusal"

    def plain(self) -> dict[str, Any]:
        """The message as chat templates want it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        text = text or self.refusal or ""
        found: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        more = {"tool_call_id": self.tool_call_id, "name": self.name}
        found |= {name: value for name, value in more.items() if value is not None}
        if self.tool_calls:
            found["tool_calls"] = [call.plain() for call in self.tool_calls]
        return found
