"""Prompts: text to tokens, in one place, once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from steering_core.concepts import Concept, Item, Pair, Side, SidedText
from steering_core.foundation.errors import PromptError, TemplateError
from steering_core.foundation.keys import content_key
from steering_core.foundation.sequences import common_length
from steering_core.models import Model
from steering_core.models.chat_template import Messages

log = logging.getLogger(__name__)

_EMPTY = "the prompt is empty, so there is nothing to answer: give it some text"


@dataclass(frozen=True)
class Prompt:
    """One token sequence, addressed by its content and its tokenizer.

    `response_start` is the index of the answer's first token; the number of tokens where there is no answer.
    """

    tokens: tuple[int, ...]
    text: str
    response_start: int
    tokenizer_id: str

    @cached_property
    def prompt_id(self) -> str:
        """Content key of the tokens."""
        return content_key("prompt", self.tokenizer_id, self.tokens, self.response_start)


def prompt(model: Model, text: str, *, chat: bool, answer: str | None = None, system: str | None = None) -> Prompt:
    """`text` as `model` reads it, followed by the answer's tokens where one is given.

    With `chat` it is the user's message in the model's chat template, ready for an answer, and an answer's tokens are
    those of the whole conversation (`steering_core.models.chat_template`). Otherwise it is raw text, to which the
    answer is joined by a space where neither side brings one. Raises PromptError for an empty or too long prompt.
    """
    if not text:
        raise PromptError(_EMPTY)
    if chat:
        messages = [{"role": "system", "content": system}] if system else []
        return _chat_prompt(model, [*messages, {"role": "user", "content": text}], text, answer)
    stem_text = f"{system}\n\n{text}" if system else text
    stem = model.raw_text.encoded(stem_text)
    if not answer:
        return _checked(model, stem, stem_text, len(stem))
    shown = stem_text + _joint(stem_text, answer) + answer
    tokens = model.raw_text.encoded(shown)
    return _checked(model, tokens, shown, common_length(stem, tokens))


def _chat_prompt(
    model: Model, messages: Messages, shown: str, answer: str | None, arguments: Mapping[str, Any] | None = None
) -> Prompt:
    """Messages in the model's chat template, ready for an answer, or followed by `answer`."""
    template = model.chat_template.with_arguments(arguments or {})
    if not template.exists:
        raise PromptError(f"{model.name} has no chat template: read the text raw, or use a chat model")
    if messages[0]["role"] == "system" and not template.takes_system:
        _tell_system_moved(model.name)
    if answer:
        tokens, start = template.answered(messages, answer)
        return _checked(model, tokens, f"{shown}\n{answer}", start)
    tokens = template.opened(messages)
    return _checked(model, tokens, shown, len(tokens))


def _checked(model: Model, tokens: tuple[int, ...], shown: str, start: int) -> Prompt:
    if not tokens:
        raise PromptError(f"the prompt {shown!r} has no tokens: give it some text")
    vocabulary = model.identity.vocab_size
    if (beyond := max(tokens)) >= vocabulary:
        name = model.tokenizer.convert_ids_to_tokens(beyond)
        raise PromptError(
            f"the tokenizer of {model.name} makes token {beyond} ({name!r}) of {shown[:60]!r}, but the model has only "
            f"{vocabulary:,} tokens: leave it out of the text, or use a model folder whose tokenizer and weights agree"
        )
    if model.identity.context and len(tokens) > model.identity.context:
        raise PromptError(
            f"a prompt of {len(tokens):,} tokens is beyond {model.name}'s context of {model.identity.context:,}: "
            f"shorten it (it begins {shown[:60]!r})"
        )
    return Prompt(tokens, shown, start, model.identity.tokenizer_id)


def example(model: Model, text: str, *, chat: bool) -> Prompt:
    """A text by itself whose activations are read.

    Token 0 is an attention sink in many models, a hundred times as long as any other. So a text of that one token gets
    the tokenizer's beginning-of-sequence token before it, or a warning where there is none.
    """
    read = prompt(model, text, chat=chat)
    if len(read.tokens) > 1:
        return read
    begin = model.tokenizer.bos_token_id
    if begin is None or begin == read.tokens[0]:
        log.warning("%r is one token, read at token 0, where streams are far longer than elsewhere: write more", text)
        return read
    return Prompt((begin, *read.tokens), read.text, 2, read.tokenizer_id)


def text_prompt(model: Model, text: str, question: str | None) -> Prompt:
    """A text whose activations are read: by itself, or as the answer to a question in the model's chat template."""
    return prompt(model, question, chat=True, answer=text) if question else example(model, text, chat=False)


def pair_prompt(model: Model, concept: Concept, pair: Pair, side: Side) -> Prompt:
    """One side of a pair, as `model` reads it."""
    return _contrast_prompt(model, concept, pair.prompt, getattr(pair, side))


def sided_prompt(model: Model, concept: Concept, text: SidedText) -> Prompt:
    """A text of either side, paired or not, as `model` reads it."""
    return _contrast_prompt(model, concept, text.prompt, text.text)


def _contrast_prompt(model: Model, concept: Concept, question: str | None, text: str) -> Prompt:
    chat = chats(model, concept.chat)
    if question is None:
        return example(model, text, chat=chat)
    return prompt(model, question, chat=chat, answer=text)


def item_prompts(model: Model, concept: Concept, item: Item, system: str | None = None) -> tuple[Prompt, Prompt]:
    """The matching and the not matching sequence of an item, as `model` reads them, scored from one common start."""
    answers = (item.matching, item.not_matching)
    matching, other = answer_prompts(model, item.prompt, answers, chat=concept.chat, system=system)
    return matching, other


def answer_prompts(
    model: Model, text: str, answers: Sequence[str], *, chat: bool, system: str | None = None
) -> list[Prompt]:
    """`text` with each of `answers`, as `model` reads them, scored from one common start."""
    chat = chats(model, chat)
    read = [prompt(model, text, chat=chat, answer=answer, system=system) for answer in answers]
    start = min(one.response_start for one in read)
    return [replace(one, response_start=start) for one in read]


def open_prompt(model: Model, concept: Concept, text: str, system: str | None = None) -> Prompt:
    """An open prompt of a concept, ready for an answer."""
    return prompt(model, text, chat=chats(model, concept.chat), system=system)


def chats(model: Model, chat: bool) -> bool:
    """Whether texts go through the model's chat template: where `chat` asks for it and the model has one."""
    if chat and not model.chat_template.exists:
        _tell_raw(model.name)
        return False
    return chat


@cache  # once a model
def _tell_raw(model: str) -> None:
    log.warning("%s has no chat template: prompts and answers are read as raw text", model)


@cache  # once a model
def _tell_system_moved(model: str) -> None:
    log.warning("%s's chat template has no system role: instructions stand at the head of the user's turn", model)


def conversation(
    model: Model,
    messages: Messages,
    arguments: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Prompt:
    """Messages (role, content, …) in the model's chat template, ready for an answer. Raises as `prompt` does.

    `arguments` go to the template for this conversation alone; so do `tools`, which it must write down.
    """
    if tools and not model.chat_template.takes_tools:
        raise TemplateError(
            f"the chat template of {model.name} takes no tools, so the model would never hear of them: leave tools "
            "out and hold the answer to a JSON schema (response_format), or use a model that was trained to call "
            "tools, such as Qwen3"
        )
    if tools:
        arguments = {**(arguments or {}), "tools": list(tools)}
    if any(message["role"] == "user" and not message["content"] for message in messages):
        raise PromptError(_EMPTY)
    shown = "\n".join(message["content"] or "" for message in messages)
    return _chat_prompt(model, messages, shown, None, arguments)


def answered_conversation(model: Model, messages: Messages, answer: str) -> Prompt:
    """Messages and the assistant's answer to them, up to its end, in the model's chat template. Raises as `prompt`."""
    if not messages:
        raise PromptError("an answer without a message before it: give what it answers")
    shown = "\n".join(message["content"] or "" for message in messages)
    return _chat_prompt(model, messages, shown, answer)


def given_tokens(model: Model, tokens: Sequence[int]) -> Prompt:
    """Tokens that somebody else made of a text. Raises PromptError for ids that the model does not have."""
    vocabulary = model.identity.vocab_size
    if outside := [token for token in tokens if not 0 <= token < vocabulary]:
        raise PromptError(f"token {outside[0]} is none of {model.name}: it has 0..{vocabulary - 1}")
    return _checked(model, tuple(tokens), "the given tokens", len(tokens))


def _joint(stem: str, answer: str | None) -> str:
    """The space between a raw prompt and its answer, where neither brings one and the answer begins with a word."""
    return " " if answer and stem and not stem[-1].isspace() and answer[0].isalnum() else ""
