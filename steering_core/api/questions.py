"""Questions: what a model is asked from Python, a text or messages, and what it reads of that."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from steering_core.foundation.errors import ModelError, PromptError, SamplingError
from steering_core.foundation.given import listed
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.validation import shown
from steering_core.models import Model
from steering_core.prompts import Prompt, conversation, prompt

TextOrMessages = str | Sequence[Mapping[str, str]]
"""A question, or messages of several turns: [{"role": "user", "content": "…"}, …]."""

SeveralTexts = list[str] | tuple[str, ...] | list[list[dict[str, str]]] | Iterator[str] | np.ndarray
"""Several questions for one batch; a column of pandas or polars, or any other iterable, is taken as well."""

ROLES = ("system", "user", "assistant", "tool")
_FORM = "[{'role': 'user', 'content': '…'}]"


def open_question(model: Model, text: TextOrMessages, system: str | None = None, chat: bool | None = None) -> Prompt:
    """`text` as the model reads it: in its chat template where it has one, unless `chat` says otherwise.

    Messages are a conversation, which ends in what the model answers; `system` then stands before them. Raises
    PromptError for what is neither, and for a role that the model's template does not know.
    """
    checked_model(model)
    if isinstance(text, str):
        return prompt(model, text, chat=model.chat_template.exists if chat is None else chat, system=system)
    if chat is False:
        raise SamplingError("messages go through the chat template: leave chat=False out, or give one text")
    messages = _messages(model, text)
    if system and messages[0]["role"] == "system":
        raise PromptError("there are two system prompts, system= and the first message: give one of them")
    return conversation(model, [{"role": "system", "content": system}, *messages] if system else messages)


def several_questions(given: Any) -> list[TextOrMessages] | None:
    """The questions of an iterable of texts or conversations; None for one question, and for what is none.

    Raises PromptError for an entry beside texts that is neither.
    """
    entries = listed(given)
    if not entries or not any(map(_is_question, entries)):
        return None
    for at, one in enumerate(entries):
        if not _is_question(one):
            raise PromptError(f"text {at} is {shown(one)}, no text: leave it out, or make a text of it")
    return entries


def _is_question(one: Any) -> bool:
    return isinstance(one, str) or (isinstance(one, list | tuple) and any(isinstance(turn, Mapping) for turn in one))


def checked_model(model: Model) -> Model:
    """The model itself. Raises ModelError for what is none, such as its name."""
    if not isinstance(model, Model):
        named = isinstance(model, str) and not any(map(str.isspace, model))
        remedy = f"open it first, open_model({model!r})" if named else "the model comes first, then what it is asked"
        raise ModelError(f"{shown(model)} is a {type(model).__name__}, no model: {remedy}")
    return model


def _messages(model: Model, given: object) -> list[dict[str, str]]:
    """The messages of a conversation that the model can answer. Raises PromptError for anything else."""
    if isinstance(given, bytes | bytearray | Mapping) or not isinstance(given, Sequence):
        raise PromptError(f"the prompt is a {type(given).__name__}: give a text, or messages such as {_FORM}")
    if not given:
        raise PromptError(f"there is no message: give at least one, such as {_FORM}")
    if isinstance(given[0], str):
        raise PromptError(f"the prompt is {len(given)} texts: give one, or ask `generate`, which takes several")
    messages = [_message(model, message, at) for at, message in enumerate(given)]
    if messages[-1]["role"] == "assistant":
        raise PromptError("the last message is the assistant's own: end in the user's, which the model answers")
    return messages


def _message(model: Model, given: object, at: int) -> dict[str, str]:
    if not isinstance(given, Mapping) or not {"role", "content"} <= given.keys():
        raise PromptError(f"message {at} is {shown(given)}: a message has a role and a content, as in {_FORM}")
    role, content = given["role"], given["content"]
    if not isinstance(content, str):
        raise PromptError(f"message {at} has the content {shown(content)}: give a text")
    if role not in ROLES and not model.chat_template.names(role):
        raise PromptError(f"message {at} has the role {shown(role)}: {did_you_mean(str(role), ROLES)}")
    return {"role": role, "content": content}
