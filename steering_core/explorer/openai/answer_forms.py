"""What clients of OpenAI's API hear: choices and their pieces, in the forms of chat and of text completions."""

import codecs
from itertools import accumulate
from typing import Any

from steering_core.explorer.batches import Event
from steering_core.explorer.openai.tools import WrittenCall

FINISH = {"stop": "stop", "length": "length", "diverged": "content_filter"}


class ChatForm:
    """The forms of a chat completion."""

    id, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, text: str, calls: list[WrittenCall]) -> dict[str, Any]:
        """A whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        return {"message": {**message, "tool_calls": calls} if calls else message}

    def delta(self, text: str, calls: list[WrittenCall], before: int, first: bool) -> dict[str, Any]:
        """A piece of an answer, after `before` calls."""
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if text or not calls:
            delta["content"] = text
        if calls:
            delta["tool_calls"] = [{"index": before + i, **call} for i, call in enumerate(calls)]
        return {"delta": delta}

    def logprobs(self, tokens: list[Event], start: int) -> dict[str, Any]:
        """How likely each token was."""
        return {"content": [_content(token) for token in tokens], "refusal": None}


class TextForm:
    """The forms of a text completion."""

    id, whole, part = "cmpl", "text_completion", "text_completion"

    def choice(self, text: str, calls: list[WrittenCall]) -> dict[str, Any]:
        """A whole text."""
        return {"text": text}

    def delta(self, text: str, calls: list[WrittenCall], before: int, first: bool) -> dict[str, Any]:
        """A piece of a text."""
        return {"text": text}

    def logprobs(self, tokens: list[Event], start: int) -> dict[str, Any]:
        """How likely each token was; `start` is where the first one's text begins."""
        return {
            "tokens": [_key(token) for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [_by_text(token) for token in tokens],
            "text_offset": _offsets(tokens, start),
        }


AnswerForm = ChatForm | TextForm


def _content(token: Event) -> dict[str, Any]:
    return {**_likely(token), "top_logprobs": [_likely(other) for other in token["likeliest"]]}


def _likely(token: Event) -> dict[str, Any]:
    own: bytes | None = token["bytes"]
    text = _escaped(own) if own is not None and _is_piece(own) else token["token"]
    return {"token": text, "logprob": token["logprob"], "bytes": None if own is None else list(own)}


def _key(token: Event) -> str:
    """A token's text; of a piece of a character its bytes, in OpenAI's form."""
    own: bytes | None = token["bytes"]
    return f"bytes:{_escaped(own)}" if own is not None and _is_piece(own) else str(token["token"])


def _by_text(token: Event) -> dict[str, float] | None:
    """The likeliest log-probabilities by text, of several tokens of one text the likeliest one's; none of the first."""
    if token["logprob"] is None:
        return None
    return {_key(other): other["logprob"] for other in reversed(token["likeliest"])}


def _offsets(tokens: list[Event], start: int) -> list[int]:
    """The letter of the text at which each token begins; all pieces of a character begin with it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [token["token"] if token["bytes"] is None else decoder.decode(token["bytes"]) for token in tokens]
    return list(accumulate(map(len, texts[:-1]), initial=start)) if texts else []


def _is_piece(own: bytes) -> bool:
    """Whether bytes are no text by themselves."""
    try:
        own.decode()
    except UnicodeDecodeError:
        return True
    return False


def _escaped(own: bytes) -> str:
    r"""Bytes as OpenAI writes them in a text, \xf0\x9f."""
    return "".join(f"\\x{byte:02x}" for byte in own)
