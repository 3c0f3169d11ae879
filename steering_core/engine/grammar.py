"""`Grammar`: texts that must be JSON, or fit a JSON schema, by llguidance, which says which tokens may come next."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from steering_core.foundation.errors import GrammarError
from steering_core.models import Model

if TYPE_CHECKING:
    from llguidance import LLTokenizer

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class Grammar:
    """A grammar, compiled for one model's tokenizer; `state` begins a text of its own."""

    tokenizer: "LLTokenizer" = field(repr=False)
    compiled: str
    vocabulary: int

    def state(self) -> "GrammarState":
        """A text at its beginning."""
        return GrammarState(self)


class GrammarState:
    """How far one text has come in its grammar."""

    def __init__(self, grammar: Grammar) -> None:
        from llguidance import LLMatcher

        self._matcher: LLMatcher = LLMatcher(grammar.tokenizer, grammar.compiled)
        self._mask = np.zeros((1, (grammar.vocabulary + 31) // 32), np.int32)
        self._vocabulary = grammar.vocabulary

    def accept(self, token: int) -> None:
        """Go on with `token`, which must be one that was open."""
        self._matcher.consume_token(token)

    def open(self) -> np.ndarray:
        """Which tokens may come next, (V,) bool; at the end of the text the stop tokens alone."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask)
        bits = np.unpackbits(self._mask.view(np.uint8), axis=1, bitorder="little")
        return bits[0, : self._vocabulary].astype(bool)


def json_grammar(model: Model, schema: Mapping[str, Any] | None = None) -> Grammar:
    """The grammar of JSON that fits `schema`, or of any JSON object.

    Raises GrammarError for a schema that cannot be followed, and for a tokenizer that llguidance does not read: one
    that is not of the tokenizers library.
    """
    from llguidance import LLMatcher

    tokenizer = _tokenizer(model)
    compiled = LLMatcher.grammar_from_json_schema(json.dumps(dict(schema or ANY_OBJECT)))
    if fault := LLMatcher.validate_grammar(compiled, tokenizer):
        raise GrammarError(f"response_format: the JSON schema cannot be followed: {_words(fault)}")
    return Grammar(tokenizer, compiled, model.identity.vocab_size)


@lru_cache(maxsize=2)
def _tokenizer(model: Model) -> "LLTokenizer":
    from llguidance.hf import from_tokenizer

    try:
        inner = model.tokenizer._tokenizer
        return from_tokenizer(inner, n_vocab=model.identity.vocab_size, eos_token=sorted(model.stop_tokens))
    except ValueError as error:
        raise GrammarError(
            f"response_format: the tokenizer of {model.name} cannot be held to a grammar ({_words(str(error))}): leave "
            "response_format out, or take a model whose tokenizer is a tokenizer.json"
        ) from error


def _words(text: str) -> str:
    return " ".join(text.split())[:300]
