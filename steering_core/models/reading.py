"""How a model reads text, as keys: of its tokenizer's rules, and of what its template makes of a conversation."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steering_core.foundation.errors import PromptError
from steering_core.foundation.keys import content_key
from steering_core.models.chat_template import ChatTemplate
from steering_core.models.raw_text import RawText, Tokens

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper

_MESSAGES = [{"role": "user", "content": "a"}]
_ANSWER = " Yes, it is. "  # with the spaces that some templates trim
_RAW = "a b"


def tokenizer_key(tokenizer: "TokenizerWrapper") -> str:
    """Content key of what turns text into tokens, the chat template included, however its files are written.

    A model and its quantised twin share it, so they share prompts.
    """
    backend = getattr(tokenizer._tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    else:  # a tokenizer written in Python: its vocabulary and name stand for its rules
        rules = {"class": type(tokenizer._tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return content_key("tokenizer", rules, tokenizer.chat_template, tokenizer.encode("a"))


def reading_key(
    tokenizer: "TokenizerWrapper", template: ChatTemplate, raw_text: RawText, arguments: Mapping[str, Any]
) -> str | None:
    """Key of how text becomes tokens beyond what `tokenizer_key` says; None where there is nothing more to say.

    Until 0.2 an answer's tokens were joined to those of an open prompt, whatever the template makes of the whole
    conversation. A model whose text is still read in the same way has no key here, so that its `model_id` is the same
    as then, and all that the store holds of it is found.
    """
    raw, conversation = raw_text.encoded(_RAW), _conversation(template)
    before = tuple(tokenizer.encode(_RAW)), _conversation_before(tokenizer, conversation)
    if not arguments and (raw, conversation) == before:
        return None
    return content_key("reading", arguments, [raw, *conversation])


def _conversation(template: ChatTemplate) -> list[Tokens]:
    """Tokens of a short conversation, open and answered; nothing where there is no template for it."""
    if not template.exists:
        return []
    try:
        return [template.opened(_MESSAGES), template.answered(_MESSAGES, _ANSWER)[0]]
    except PromptError:  # a prompt will say why
        return []


def _conversation_before(tokenizer: "TokenizerWrapper", conversation: list[Tokens]) -> list[Tokens]:
    """Tokens of the same conversation as they were read until 0.2; nothing where the template refuses it now."""
    if not conversation:
        return []
    try:
        opened = tuple(tokenizer.apply_chat_template(_MESSAGES, add_generation_prompt=True))
    except Exception:  # noqa: BLE001  (a template may raise anything; such a conversation was not read at all)
        return []
    return [opened, opened + tuple(tokenizer.encode(_ANSWER, add_special_tokens=False))]
