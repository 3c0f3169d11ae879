"""What clients of OpenAI's API hear: choices and their pieces, in the forms of chat and of text completions."""

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
        texts = [token["token"] for token in tokens]
        offsets = list(accumulate(map(len, texts[:-1]), initial=start)) if texts else []
        return {
            "tokens": texts,
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [dict(token["likeliest"]) for token in tokens],
            "text_offset": offsets,
        }


AnswerForm = ChatForm | TextForm


def _content(token: Event) -> dict[str, Any]:
    likeliest = [{"token": text, "logprob": value, "bytes": _bytes(text)} for text, value in token["likeliest"]]
    own = {"token": token["token"], "logprob": token["logprob"], "bytes": _bytes(token["token"])}
    return {**own, "top_logprobs": likeliest}


def _bytes(text: str) -> list[int] | None:
    """A token's bytes; None where it is a piece of a character."""
    return None if "�" in text else list(text.encode())
