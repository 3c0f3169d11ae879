"""`Concept`: a behaviour as contrast data, open prompts and held-out items, with splits fixed by content.

The contrast is `pairs`, or `unpaired` texts of either side, as many of each as there are.
"""

import json
import math
from collections.abc import Collection, Hashable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from steering_core.foundation.errors import ConceptError
from steering_core.foundation.given import is_missing
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import Strict

Side = Literal["positive", "negative"]
Split = Literal["train", "validation", "test"]
SIDES: tuple[Side, Side] = ("positive", "negative")
MAX_TEXT = 1 << 20  # letters; longer than any context
MAX_ROWS = 200_000
MAX_ACCEPTED = 100  # findings of the lint
MAX_CONCEPT_NAME = 100  # letters


def _not_a_number(value: object) -> object:
    """The value; ValueError for a number or a truth value, which YAML makes of unquoted text."""
    if isinstance(value, int | float):
        raise ValueError(
            "must be a text: put it in quotes (YAML takes an unquoted yes, no, on, off or 3 for something else)"
        )
    return value


def refuse_repeats(noun: str, keys: Sequence[Hashable]) -> None:
    """Raise ValueError where two of a file's entries, each called a `noun`, have one key."""
    first: dict[Hashable, int] = {}
    for i, key in enumerate(keys):
        if (j := first.setdefault(key, i)) != i:
            raise ValueError(f"{noun} {i + 1} repeats {noun} {j + 1}: leave one of them out")


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), BeforeValidator(_not_a_number)]
PromptOrNone = Annotated[Text | None, BeforeValidator(lambda value: None if is_missing(value) else value)]

GivenSplit = Annotated[Split | None, Field(exclude_if=lambda split: split is None)]  # so that concept_ids are as before
PAIR_SHARES: tuple[tuple[Split, float], ...] = (("train", 0.6), ("validation", 0.2), ("test", 0.2))
ITEM_SHARES: tuple[tuple[Split, float], ...] = (("validation", 0.5), ("test", 0.5))


class Pair(Strict, fault=ConceptError):
    """Two texts that differ in the concept alone; where `prompt` is given they are two answers to it.

    `split` is that of the file it came from; a pair without one is dealt by content.
    """

    positive: Text
    negative: Text
    prompt: PromptOrNone = None
    split: GivenSplit = None

    @cached_property
    def pair_id(self) -> str:
        """Content key of the pair."""
        return content_key("pair", self.prompt, self.positive, self.negative)


class Example(Strict, fault=ConceptError):
    """A text of one side that has no partner on the other; where `prompt` is given it is an answer to that.

    A plain text stands for an example without a prompt. `split` as in `Pair`.
    """

    text: Text
    prompt: PromptOrNone = None
    split: GivenSplit = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_text(cls, given: Any) -> Any:
        return given if isinstance(given, dict | Example) else {"text": given}


Examples = Annotated[tuple[Example, ...], Field(min_length=1, max_length=MAX_ROWS)]


class Unpaired(Strict, fault=ConceptError):
    """Texts of either side that do not belong together in pairs; there may be more of one side than of the other."""

    positive: Examples
    negative: Examples

    @field_validator("positive", "negative")
    @classmethod
    def _no_text_twice(cls, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        refuse_repeats("text", [(example.prompt, example.text) for example in examples])
        return examples


class SidedText(NamedTuple):
    """One side of a pair, or an unpaired text, with the split that it is in.

    `row_id` is the content key of the pair or of the text, `ordinal` its place among the pairs, or among the texts of
    its side.
    """

    row_id: str
    ordinal: int
    side: Side
    text: str
    prompt: str | None
    split: Split


class Item(Strict, fault=ConceptError):
    """A held-out question with two continuations, one of which shows the concept; `split` as in `Pair`."""

    prompt: Text
    matching: Text
    not_matching: Text
    split: GivenSplit = None

    @cached_property
    def item_id(self) -> str:
        """Content key of the item."""
        return content_key("item", self.prompt, self.matching, self.not_matching)


class Sides(Strict, fault=ConceptError):
    """A text for either side of a concept."""

    positive: Text
    negative: Text


class Words(Strict, fault=ConceptError):
    """Words typical of either side, for the word-list scorer."""

    positive: Annotated[tuple[Text, ...], Field(max_length=MAX_ROWS)] = ()
    negative: Annotated[tuple[Text, ...], Field(max_length=MAX_ROWS)] = ()


class Card(Strict, fault=ConceptError):
    """What a concept's data is, how it was made, its known biases and its licence.

    `accepted` names lint findings that lie in the nature of the concept, each with the reason.
    """

    what: str = ""
    made: str = ""
    biases: str = ""
    licence: str = ""
    accepted: Annotated[dict[str, Text], Field(max_length=MAX_ACCEPTED)] = {}


class Concept(Strict, fault=ConceptError):
    """A behaviour to steer: contrastive pairs or unpaired texts, open prompts, held-out items.

    `chat` sends pairs, prompts and items through the model's chat template, where it has one; otherwise they are raw
    text. Where `chat` is not given, it is true if any pair or text has a prompt. `instructions` are system prompts, the
    baseline that a vector is compared with. Raises ConceptError with every fault where Python makes one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MAX_CONCEPT_NAME)]
    description: str = ""
    chat: bool = False
    pairs: Annotated[tuple[Pair, ...], Field(max_length=MAX_ROWS)] = ()
    unpaired: Annotated[Unpaired | None, Field(exclude_if=lambda unpaired: unpaired is None)] = None
    prompts: Annotated[tuple[Text, ...], Field(max_length=MAX_ROWS)] = ()
    items: Annotated[tuple[Item, ...], Field(max_length=MAX_ROWS)] = ()
    instructions: Sides | None = None
    words: Words = Words()
    card: Card = Card()

    @model_validator(mode="before")
    @classmethod
    def _chat_where_texts_answer(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "chat" in given:
            return given
        unpaired = given.get("unpaired")
        sides = [unpaired.get(side) for side in SIDES] if isinstance(unpaired, dict) else []
        rows = [row for part in (given.get("pairs"), *sides) if isinstance(part, list | tuple) for row in part]
        return given | {"chat": any(has_prompt(row) for row in rows)} if rows else given

    @model_validator(mode="after")
    def _one_contrast(self) -> Self:
        if bool(self.pairs) == (self.unpaired is not None):
            has = "has both pairs and" if self.pairs else "has neither pairs nor"
            raise ValueError(
                f"{has} unpaired texts: give `pairs`, or texts without partners as `unpaired: "
                "{positive: […], negative: […]}`"
            )
        return self

    @field_validator("pairs")
    @classmethod
    def _no_pair_twice(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        refuse_repeats("pair", [pair.pair_id for pair in pairs])
        return pairs

    @field_validator("items")
    @classmethod
    def _no_item_twice(cls, items: tuple[Item, ...]) -> tuple[Item, ...]:
        refuse_repeats("item", [item.item_id for item in items])
        return items

    def __repr__(self) -> str:
        contrast = f"{len(self.pairs)} pairs"
        if self.unpaired is not None:
            contrast = f"{len(self.unpaired.positive)} and {len(self.unpaired.negative)} unpaired texts"
        return f"<Concept {self.name}: {contrast}, {len(self.items)} items, {len(self.prompts)} prompts>"

    def __str__(self) -> str:
        return repr(self)

    @cached_property
    def concept_id(self) -> str:
        """Content key of all that a run depends on: everything but description and card."""
        by_texts = (
            ["one prompt"] if self._asks_one_question() else []
        )  # stores have such rows in one split, under other keys
        return content_key("concept", json.loads(self.model_dump_json(exclude={"description", "card"})), *by_texts)

    def _asks_one_question(self) -> bool:
        """Whether the pairs, the unpaired texts or the items are dealt one by one though they have a prompt."""
        sides = [*self.unpaired.positive, *self.unpaired.negative] if self.unpaired else []
        return any(shared_prompt(rows) is not None for rows in (self.pairs, sides, self.items))

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Split of each pair_id: 60 % train, 20 % validation, 20 % test; pairs on one prompt stay together.

        Where all stand on one prompt, which tells nothing then, each is dealt by itself. Pairs with a split of their
        own keep it; the others are dealt to train and to the splits that no pair names.
        """
        groups: dict[str, list[str]] = {}
        constant = shared_prompt(self.pairs)
        for pair in self.pairs:
            if pair.split is None:
                group = pair.pair_id if pair.prompt == constant else pair.prompt or pair.pair_id
                groups.setdefault(group, []).append(pair.pair_id)
        given = {pair.pair_id: pair.split for pair in self.pairs if pair.split}
        split = _by_rank(list(groups), _open_shares(PAIR_SHARES, set(given.values()) - {"train"}))
        return given | {pair_id: split[group] for group, members in groups.items() for pair_id in members}

    @cached_property
    def texts(self) -> tuple[SidedText, ...]:
        """Every text of the contrast in the file's order: both sides of each pair, or one side and then the other."""
        if self.unpaired is not None:
            return _unpaired_texts(self.unpaired)
        return tuple(
            SidedText(pair.pair_id, i, side, getattr(pair, side), pair.prompt, self.splits[pair.pair_id])
            for i, pair in enumerate(self.pairs)
            for side in SIDES
        )

    def texts_in(self, split: Split, side: Side) -> list[SidedText]:
        """The texts of one side in one split, in the file's order; those of pairs stand in the pairs' order."""
        return [text for text in self.texts if (text.split, text.side) == (split, side)]

    @cached_property
    def item_splits(self) -> dict[str, Split]:
        """Split of each item_id: half validation, half test, or as it says itself; one prompt's items stay together.

        Where all stand on one prompt, each is dealt by itself.
        """
        given = {item.split for item in self.items if item.split}
        constant = shared_prompt(self.items)
        groups = {item.item_id: item.item_id if item.prompt == constant else item.prompt for item in self.items}
        dealt = sorted({groups[item.item_id] for item in self.items if item.split is None})
        split = _by_rank(dealt, _open_shares(ITEM_SHARES, given))
        return {item.item_id: item.split or split[groups[item.item_id]] for item in self.items}

    def pairs_in(self, split: Split) -> list[Pair]:
        """The pairs of one split, in the file's order."""
        return [pair for pair in self.pairs if self.splits[pair.pair_id] == split]

    def items_in(self, split: Split) -> list[Item]:
        """The items of one split, in the file's order."""
        return [item for item in self.items if self.item_splits[item.item_id] == split]


def _unpaired_texts(unpaired: Unpaired) -> tuple[SidedText, ...]:
    """The texts of both sides with their splits: 60 % train, 20 % validation, 20 % test of either side.

    Texts on one prompt stay together, whatever their side, unless all are on it; so does a text that stands on both.
    Splits that texts name are kept, as pairs' are.
    """
    sides: dict[Side, tuple[Example, ...]] = {side: getattr(unpaired, side) for side in SIDES}
    constant = shared_prompt([*unpaired.positive, *unpaired.negative])
    on: dict[str, set[Side]] = {}
    for side, examples in sides.items():
        for example in examples:
            if example.split is None:
                on.setdefault(_group(example, constant), set()).add(side)
    given = {example.split for examples in sides.values() for example in examples if example.split}
    shares, dealt = _open_shares(PAIR_SHARES, given - {"train"}), dict[str, Split]()
    for where in ({"positive"}, {"negative"}, set(SIDES)):  # each by itself, so that no split lacks a side by chance
        dealt |= _by_rank([group for group, sides_of_group in on.items() if sides_of_group == where], shares)
    return tuple(
        SidedText(
            content_key("example", side, example.prompt, example.text),
            i,
            side,
            example.text,
            example.prompt,
            example.split or dealt[_group(example, constant)],
        )
        for side, examples in sides.items()
        for i, example in enumerate(examples)
    )


def _group(example: Example, constant: str | None) -> str:
    return example.text if example.prompt == constant else example.prompt or example.text


def shared_prompt(rows: Sequence[Pair | Example | Item]) -> str | None:
    """The prompt on which all of several rows stand, and which so tells nothing; None where there is none."""
    prompts = {row.prompt for row in rows}
    return next(iter(prompts)) if len(rows) > 1 and len(prompts) == 1 else None


def has_prompt(pair: object) -> bool:
    """Whether a pair or an example, read or still as it is written, answers a prompt."""
    prompt = pair.get("prompt") if isinstance(pair, dict) else getattr(pair, "prompt", None)
    return not is_missing(prompt) and bool(prompt)


def _open_shares(shares: tuple[tuple[Split, float], ...], given: Collection[Split]) -> tuple[tuple[Split, float], ...]:
    """The shares of the splits that no row names, scaled to add up to 1; all shares where every split is named."""
    left = tuple((split, share) for split, share in shares if split not in given) or shares
    total = sum(share for _, share in left)
    return tuple((split, share / total) for split, share in left) if len(left) < len(shares) else shares


def _by_rank(names: Sequence[str], shares: Sequence[tuple[Split, float]]) -> dict[str, Split]:
    """Names dealt to splits by the order of their content keys; shares are rounded so that the first is never empty."""
    ranked = sorted(names, key=lambda name: content_key("split", name))
    dealt: dict[str, Split] = {}
    start, share = 0, 0.0
    for split, part in shares:
        share += part
        end = math.ceil(share * len(ranked) - 1e-9)
        dealt |= dict.fromkeys(ranked[start:end], split)
        start = end
    return dealt
