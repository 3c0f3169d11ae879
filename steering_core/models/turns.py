"""`Turns`: whose tokens a conversation's are, told by the chat template's own markers.

The template is shown a conversation whose every content is a mark. What it writes between two marks is what stands
between two turns, and so those strings are found again in any conversation that the template made. Within the
assistant's turns, thoughts and calls of tools stand between the tokenizer's markers, as mlx-lm knows them.

A token is *in* a turn of `user` or `system` where its own text is. What the model writes is told by what comes next: a
position is in `response`, `thinking` or `tool` where its output makes a token there, so that the prompt's last token
is in the response, as it is in the phase `generation`, and the token that closes a turn is in none.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from steering_core.foundation.errors import TemplateError
from steering_core.models.chat_template import ChatTemplate

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper

TextOf = Callable[[Sequence[int]], str]

WRITTEN = ("response", "thinking", "tool")
"""What the model writes in its turn: its answer, its thoughts, and its calls of tools."""

READ = ("system", "user")
"""Turns that the model reads."""

_MARKS = "\ue010\ue011\ue012\ue013\ue014\ue015"  # letters of private use, which stand for contents
_TALKS = (("user", "assistant", "user", "assistant", "user"), ("system", "user", "assistant", "user", "assistant"))

_KNOWN = 16  # conversations whose labels are kept
_WINDOW = 8  # tokens that are decoded with a new one, so that pieces of a character come together
_LONGEST = 64  # letters of a marker

Label = str | None
"""A position's phase: one of `WRITTEN` or `READ`, or None between turns and before the first."""


class Turns:
    """The turns of conversations in one chat template. Raises TemplateError where the template takes no answers."""

    def __init__(self, template: ChatTemplate, tokenizer: "TokenizerWrapper", text: TextOf) -> None:
        self._template, self._tokenizer, self._text = template, tokenizer, text
        self._known: dict[tuple[int, ...], tuple[Label, ...]] = {}

    @property
    def move(self) -> bool:
        """Whether what the model writes can be anything but its response."""
        return any(self._inside.values())

    def labels(self, tokens: Sequence[int]) -> tuple[Label, ...]:
        """The phase of each position of a conversation's tokens, (T,)."""
        key = tuple(tokens)
        if key not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = self._labels(key)
        return self._known[key]

    def _labels(self, tokens: tuple[int, ...]) -> tuple[Label, ...]:
        ends = _text_ends(self._text, tokens)
        letters = [*self._letters(ends.text), self._after(ends.text)]
        found: list[Label] = []
        for place, end in enumerate(ends.ends):
            coming, own = letters[end], letters[max(end - 1, 0)]
            start = ends.ends[place - 1] if place else 0
            if coming not in WRITTEN:
                coming = own if end > start else None
            found.append(coming)
        return tuple(found)

    def following(self, label: Label) -> "Following":
        """What follows the phase of the model's new tokens, after a position with that label."""
        return Following(self._inside, label, self._text)

    # -- text -------------------------------------------------------------------------------------------------------

    def _letters(self, text: str) -> list[Label]:
        """The turn of each letter. A marker that opens a thought or call is outside of it, a closing one inside."""
        letters: list[Label] = [None] * len(text)
        role, place = None, 0
        for start, end, following in self._boundaries(text):
            self._fill(letters, text, place, start, role)
            role, place = following, end
        self._fill(letters, text, place, len(text), role)
        return letters

    def _fill(self, letters: list[Label], text: str, begin: int, end: int, role: str | None) -> None:
        if role != "assistant":
            letters[begin:end] = [role if role in READ else None] * (end - begin)
            return
        label = "response"
        while begin < end:
            nexts = [(text.find(mark, begin, end), mark, to) for mark, to in self._inside.get(label, ())]
            found = min(((at, mark, to) for at, mark, to in nexts if at >= 0), default=None)
            stop = end if found is None else found[0] + len(found[1])
            letters[begin:stop] = [label] * (stop - begin)
            begin = stop
            label = label if found is None else found[2]

    def _after(self, text: str) -> Label:
        """The phase that `text` ends in."""
        role, place = None, 0
        for _, end, following in self._boundaries(text):
            role, place = following, end
        if role != "assistant":
            return None
        written = Following(self._inside, "response", lambda _: "")
        written.hear(text[place:])
        return written.label

    def _boundaries(self, text: str) -> list[tuple[int, int, str | None]]:
        """What stands between turns in `text`: where each begins and ends, and the role of the turn after it."""
        found: list[tuple[int, int, str | None]] = []
        place = 0
        if head := self._head(text):
            found.append((0, len(head[0]), head[1]))
            place = len(head[0])
        while place <= len(text):
            nexts = [(text.find(mark, place), -len(mark), mark, role) for mark, role in self._between]
            hits = [hit for hit in nexts if hit[0] >= 0]
            if not hits:
                return found
            at, _, mark, role = min(hits, key=lambda hit: hit[:2])
            found.append((at, at + len(mark), role))
            place = at + len(mark)
        return found

    def _head(self, text: str) -> tuple[str, str] | None:
        """What `text` has before its first content, such as a template's own system prompt, and the content's role."""
        heads = sorted(((head, role) for head, role in self._heads if text.startswith(head)), key=lambda h: len(h[0]))
        if len(heads) > 1 and heads[0][1] == "system" and heads[-1][0].startswith(heads[0][0]):
            return heads[0]
        return heads[-1] if heads else None

    # -- markers ----------------------------------------------------------------------------------------------------

    @cached_property
    def _inside(self) -> dict[str, list[tuple[str, str]]]:
        """Within the assistant's turn: from each label, the markers that lead to others."""
        inside: dict[str, list[tuple[str, str]]] = {"response": []}
        if self._tokenizer.has_thinking:
            inside["response"].append((str(self._tokenizer.think_start), "thinking"))
            inside["thinking"] = [(str(self._tokenizer.think_end), "response")]
        if self._tokenizer.has_tool_calling:
            inside["response"].append((str(self._tokenizer.tool_call_start), "tool"))
            ends = self._tokenizer.tool_call_end
            inside["tool"] = [(ends, "response")] if ends else []
        return inside

    @cached_property
    def _samples(self) -> list[tuple[str | None, str | None, str]]:
        """What the template writes between two contents: the roles before and after it, and the text."""
        samples: list[tuple[str | None, str | None, str]] = []
        for roles in _TALKS:
            if roles[0] == "system" and not self._template.takes_system:
                continue
            messages = [{"role": role, "content": mark} for role, mark in zip(roles, _MARKS, strict=False)]
            whole = self._as_read(self._template.rendered(messages, answered=roles[-1] == "assistant"))
            places = [whole.find(message["content"]) for message in messages]
            if -1 in places or places != sorted(places):
                raise TemplateError(
                    "this chat template leaves turns out or changes their order, so that nobody can tell them apart: "
                    "steer in the phases prompt, generation or all"
                )
            ends = [0, *(place + 1 for place in places)]
            texts = [whole[a:b] for a, b in zip(ends, [*places, len(whole)], strict=True)]
            asked = "assistant" if roles[-1] == "user" else None
            samples += zip([None, *roles], [*roles, asked], texts, strict=True)
        return samples

    def _as_read(self, text: str) -> str:
        """The template's text as its tokens say it: some tokenizers have spaces of their own between markers."""
        return _text_ends(self._text, self._tokenizer.encode(text, add_special_tokens=False)).text

    @cached_property
    def _between(self) -> list[tuple[str, str | None]]:
        """Each string that ends a turn, and the role of the next turn; None at the end of a conversation."""
        pairs = dict.fromkeys((one, other) for one, other, _ in self._samples if one is not None)
        found: dict[str, str | None] = {}
        for one, other in sorted(
            pairs, key=lambda pair: pair[1] is None
        ):  # last, as a template may open an answer unasked
            if text := _beginning([text for a, b, text in self._samples if (a, b) == (one, other)]):
                found.setdefault(text, other)
        return list(found.items())

    @cached_property
    def _heads(self) -> list[tuple[str, str]]:
        """What stands before a conversation's first content, and the role of that."""
        return [(text, other) for one, other, text in self._samples if one is None and other is not None]


class Following:
    """The label of a text's end, kept up to date as text is added: letters by `hear`, a token by `add`."""

    def __init__(self, inside: dict[str, list[tuple[str, str]]], label: Label, text: TextOf) -> None:
        self._inside, self._text = inside, text
        self._tokens: list[int] = []
        self._tail = ""
        self.label = label

    def add(self, token: int) -> Label:
        """The label after one more token."""
        before = self._text(self._tokens[-_WINDOW:])
        self._tokens.append(token)
        both = self._text(self._tokens[-_WINDOW - 1 :])
        self.hear(both[len(before) :] if both.startswith(before) else "")
        return self.label

    def hear(self, text: str) -> None:
        """Go on after `text`."""
        self._tail += text
        while self.label in self._inside:
            nexts = [(self._tail.find(mark), mark, to) for mark, to in self._inside[str(self.label)]]
            found = min(((at, mark, to) for at, mark, to in nexts if at >= 0), default=None)
            if found is None:
                break
            self._tail, self.label = self._tail[found[0] + len(found[1]) :], found[2]
        self._tail = self._tail[-_LONGEST:]


class _TextEnds(NamedTuple):
    """A text, and where each token's part of it ends."""

    text: str
    ends: list[int]


def _text_ends(text_of: TextOf, tokens: Sequence[int]) -> _TextEnds:
    """The text of `tokens`, and where each token's part of it ends.

    A token that holds only the first bytes of a character ends where the character begins.
    """
    text, ends, context = "", [], 0
    known = 0  # tokens whose text is in `text`
    for place in range(len(tokens)):
        before = text_of(tokens[context:known]) if known > context else ""
        both = text_of(tokens[context : place + 1])
        if len(both) > len(before) and not both.endswith("�"):
            text += both[len(before) :]
            context, known = known, place + 1
        ends.append(len(text))
    if known < len(tokens):
        before = text_of(tokens[context:known]) if known > context else ""
        text += text_of(tokens[context:])[len(before) :]
        ends[known:] = [len(text)] * (len(tokens) - known)
    return _TextEnds(text, ends)


def _beginning(texts: Sequence[str]) -> str:
    """What all of `texts` begin with."""
    shortest = min(texts, key=len)
    return next((shortest[:i] for i in range(len(shortest)) if any(t[i] != shortest[i] for t in texts)), shortest)
