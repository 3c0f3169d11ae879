"""The OpenAI-compatible API's fields and forms by themselves, without a server."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from steering_core.explorer.openai.answer_forms import ChatForm, TextForm
from steering_core.explorer.openai.fields import ChatCompletion
from steering_core.models import Model
from steering_core.models.raw_text import RawText


def test_a_call_without_arguments_goes_through_the_template_as_one_with_none() -> None:
    def plain(**function: Any) -> Any:
        call = {"function": {"name": "now", **function}}
        (message,) = ChatCompletion.model_validate(
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
        ).messages
        return message.plain()["tool_calls"][0]["function"]["arguments"]

    assert plain() == plain(arguments="{}") == plain(arguments="") == plain(arguments={}) == {}


def likely(own: bytes, logprob: float = -1.0, likeliest: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"token": own.decode(errors="replace"), "bytes": own, "logprob": logprob, "likeliest": list(likeliest)}


def test_a_texts_offsets_are_where_its_tokens_begin() -> None:
    tokens = [likely(text.encode()) for text in ("ab", "", "c", "def")]
    assert TextForm().logprobs(tokens, 5)["text_offset"] == [5, 7, 7, 8]
    assert TextForm().logprobs([], 5)["text_offset"] == []
    parrot = [likely(b"a"), *(likely(bytes([byte])) for byte in "🦜".encode()), likely(b"b")]
    assert TextForm().logprobs(parrot, 0)["text_offset"] == [0, 1, 1, 1, 1, 2]


def test_pieces_of_a_character_are_told_by_their_bytes() -> None:
    others = (likely(b"\xf0\x9f", -1.0), likely(b"\xe2", -2.0), likely(b"the", -3.0), likely(b"the", -4.0))
    token = likely(b"\xf0\x9f", -1.0, others)
    (chat,) = ChatForm().logprobs([token], 0)["content"]
    assert (chat["token"], chat["bytes"]) == (r"\xf0\x9f", [0xF0, 0x9F])
    assert [other["bytes"] for other in chat["top_logprobs"]] == [[0xF0, 0x9F], [0xE2], [*b"the"], [*b"the"]]
    text = TextForm().logprobs([token], 0)
    assert text["tokens"] == [r"bytes:\xf0\x9f"]
    assert text["top_logprobs"] == [{r"bytes:\xf0\x9f": -1.0, r"bytes:\xe2": -2.0, "the": -3.0}]


PARROT = "A parrot 🦜, 你好吗.�"


def test_a_byte_level_tokens_bytes_are_its_own(tiny: Model) -> None:
    tokens = tiny.raw_text.encoded(PARROT)
    assert len(tokens) == len(PARROT.encode())
    assert b"".join(tiny.token_bytes(token) or b"" for token in tokens) == PARROT.encode()


def test_the_bytes_of_byte_fallback_are_its_own() -> None:
    pieces = ["<unk>", "▁", *"aA", *(f"<0x{byte:02X}>" for byte in range(256))]
    inner = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw = RawText(PreTrainedTokenizerFast(tokenizer_object=inner))
    told = [raw.bytes_of(token) for token in raw.encoded(PARROT)]
    assert b"".join(own or b"?" for own in told) == f" {PARROT}".encode()


def test_bytes_that_nothing_tells_are_none() -> None:
    inner = Tokenizer(models.WordLevel({"a": 0, "\ufffd你": 1}, unk_token="a"))
    assert RawText(PreTrainedTokenizerFast(tokenizer_object=inner)).bytes_of(1) is None
