"""What a tensor's name in another tool's file says: the layer, and the place in the block.

TransformerLens (`blocks.2.hook_resid_post`), nnterp (`layers_output.2`), nnsight and transformers (`model.layers.2`),
repeng and llama.cpp (`direction.2`) and plain numbers are understood. A name with any other word says nothing here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Convention(StrEnum):
    """Where another tool counts its layers: N is our layer N at `resid_post`, and our layer N - 1 at the other two."""

    RESID_POST = "resid_post"
    RESID_PRE = "resid_pre"
    HIDDEN_STATES = "hidden_states"

    @property
    def offset(self) -> int:
        """What is added to the other tool's number to give our layer."""
        return 0 if self is Convention.RESID_POST else -1


@dataclass(frozen=True)
class NamedPlace:
    """The number that a name carries, and the convention in which that number counts."""

    number: int
    convention: Convention

    @property
    def layer(self) -> int:
        """Our 0-based layer; -1 is the embeddings."""
        return self.number + self.convention.offset


_OUTSIDE = frozenset(
    """attn attention attentions mlp mlps ffn mid embed embeds embedding embeddings unembed wte wpe ln ln1 ln2 norm
    layernorm lm logits proj experts router""".split()  # noqa: SIM905  (a list of them is one word a line)
)
_LETTERS = frozenset("zqkv")  # of TransformerLens' attention; alone each is but somebody's variable
_KNOWN = frozenset(
    """layer layers block blocks h decoder transformer model language gpt neox base module direction directions vector
    vectors steering control resid residual stream hook post pre input inputs output outputs out hidden state states
    activation activations""".split()  # noqa: SIM905  (as above)
)
_WORD = re.compile(r"[a-z]+|[0-9]+")
_TUPLE = re.compile(r"(?<=[0-9])([._](?:in|out)puts?)[._\[]0\]?$")  # nnsight: the first of what a module takes or gives


def outside_the_stream(name: str) -> str:
    """The word of a name that puts it outside the residual stream, such as `mlp`; empty where there is none."""
    words = _words(name)
    outside = _OUTSIDE | _LETTERS if len(words) > 1 else _OUTSIDE
    return next((word for word in words if word in outside), "")


def named_place(name: str) -> NamedPlace | None:
    """The layer of the residual stream that `name` says; None where it says none, or more than one thing."""
    words = _words(_TUPLE.sub(r"\1", name.lower()))
    numbers = [word for word in words if word.isdecimal()]
    said = [word for word in words if not word.isdecimal()]
    if len(numbers) != 1 or len(numbers[0]) > 6 or not _KNOWN.issuperset(said):
        return None
    return NamedPlace(int(numbers[0]), _convention(said))


def names_a_layer(name: str) -> bool:
    """Whether there is a number in the name, so that a bare matrix is not what it calls itself."""
    return any(word.isdecimal() for word in _words(name))


def _convention(words: list[str]) -> Convention:
    if {"pre", "input", "inputs"} & set(words):
        return Convention.RESID_PRE
    if "hidden" in words:
        return Convention.HIDDEN_STATES
    return Convention.RESID_POST


def _words(name: str) -> list[str]:
    return _WORD.findall(name.lower())
