"""The OpenAI-compatible API's fields and forms by themselves, without a server."""

from typing import Any

from steering_core.explorer.openai.answer_forms import TextForm
from steering_core.explorer.openai.fields import ChatCompletion


def test_a_call_without_arguments_goes_through_the_template_as_one_with_none() -> None:
    def plain(**function: Any) -> Any:
        call = {"function": {"name": "now", **function}}
        (message,) = ChatCompletion.model_validate(
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
        ).messages
        return message.plain()["tool_calls"][0]["function"]["arguments"]

    assert plain() == plain(arguments="{}") == plain(arguments="") == plain(arguments={}) == {}


def test_a_texts_offsets_are_where_its_tokens_begin() -> None:
    tokens = [{"token": text, "logprob": -1.0, "likeliest": []} for text in ("ab", "", "c", "def")]
    assert TextForm().logprobs(tokens, 5)["text_offset"] == [5, 7, 7, 8]
    assert TextForm().logprobs([], 5)["text_offset"] == []
