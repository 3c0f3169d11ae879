"""`RawText`: raw text as tokens, and tokens as text, for tokenizers that add to either.

Some tokenizers put a beginning-of-sequence token before a text, some an end-of-sequence token after it, and
SentencePiece drops a text's first space when it decodes. Texts that are read begin as the tokenizer has them begin, end
with their own last token, and continuations keep their first space.
"""

import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper

Tokens = tuple[int, ...]
_INCOMPLETE = "\ufffd"  # what a tokenizer shows for a piece of a character
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's tokens of one byte


class RawText:
    """Text without a chat template, as `tokenizer` cuts it."""

    def __init__(self, tokenizer: "TokenizerWrapper") -> None:
        self._tokenizer = tokenizer

    def encoded(self, text: str) -> Tokens:
        """Tokens of `text`, with the tokenizer's beginning of a sequence once, and without its end of one."""
        plain, beginning = self._plain(text), self._beginning
        return plain if beginning and plain[: len(beginning)] == beginning else beginning + plain

    def decoded(self, tokens: Sequence[int]) -> str:
        """What a sequence says from its first token on, special tokens included, exactly as they are."""
        text: str = self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text

    def continued(self, tokens: Sequence[int]) -> str:
        """What `tokens` say after other tokens: SentencePiece's first space is kept."""
        before, length = self._anchor
        return self.decoded((*before, *tokens))[length:]

    def bytes_of(self, token: int) -> bytes | None:
        """A token's own bytes, as it follows others: of a piece of a character, too; None where nothing tells them."""
        text = self.continued([token])
        if _INCOMPLETE not in text:
            return text.encode()
        piece = str(self._tokenizer.convert_ids_to_tokens(token) or "")
        if fallback := _FALLBACK.fullmatch(piece):
            return bytes.fromhex(fallback[1])
        found = bytes(_byte_of()[letter] for letter in piece if letter in _byte_of())
        return found if found.decode(errors="replace") == text else None

    def _plain(self, text: str) -> Tokens:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def _beginning(self) -> Tokens:
        """What the tokenizer puts before every text."""
        plain, whole = self._plain("a"), tuple(self._tokenizer.encode("a"))
        places = [i for i in range(len(whole)) if whole[i : i + len(plain)] == plain]
        return whole[: places[0]] if places else ()

    @cached_property
    def _anchor(self) -> tuple[Tokens, int]:
        """Some tokens that text may follow, and the length of what they say."""
        tokens = self._plain("a")
        return tokens, len(self.decoded(tokens))


@cache
def _byte_of() -> dict[str, int]:
    """The byte for which each letter stands in a byte-level vocabulary (Radford et al. 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(others)}
