"""Templates: texts with slots, expanded to pairs; the same template and seed give the same pairs everywhere.

    template: {prompt: "Describe {thing}.", positive: "{good} {thing}.", negative: "{bad} {thing}."}
    slots: {thing: [the sea, a street], good: [What a lovely], bad: [What an ugly]}

A slot whose values differ by side is a mapping: `persona: {positive: [happy, glad], negative: [sad, low]}`. Its two
lists run side by side, the shorter one starting again.
"""

import itertools
import math
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from steering_core.concepts.concept import MAX_ROWS, MAX_TEXT, Card, Concept, Item, Pair, Sides, Text, Words
from steering_core.foundation.bounds import Seed, Within
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import seed_from
from steering_core.foundation.validation import Strict, checked, written

MAX_COMBINATIONS = 100_000_000
MAX_SLOTS = 100
MAX_PAIRS = 100_000  # that one template or persona file makes
SlotText = Annotated[str, Field(max_length=MAX_TEXT)]  # it may be empty: the wording stands without it, then
SlotValues = Annotated[tuple[SlotText, ...], Field(min_length=1, max_length=MAX_ROWS)]


class SidedValues(Strict, fault=ConceptError):
    """A slot's values for either side."""

    positive: SlotValues
    negative: SlotValues


class Wording(Strict, fault=ConceptError):
    """Two texts with slots in braces, and the prompt that both answer, where there is one."""

    positive: Text
    negative: Text
    prompt: Text | None = None


class Template(Strict, fault=ConceptError):
    """A concept whose pairs come from one wording and lists of slot values; `count` of them are drawn by `seed`."""

    name: str | None = None
    description: str = ""
    chat: bool | None = None
    template: Wording
    slots: Annotated[dict[str, SlotValues | SidedValues], Field(max_length=MAX_SLOTS)]
    count: Annotated[int, Within(1, MAX_PAIRS)] = 128
    seed: Seed = 0
    prompts: Annotated[tuple[Text, ...], Field(max_length=MAX_ROWS)] = ()
    items: Annotated[tuple[Item, ...], Field(max_length=MAX_ROWS)] = ()
    instructions: Sides | None = None
    words: Words = Words()
    card: Card = Card()

    @model_validator(mode="after")
    def _slots_fit(self) -> "Template":
        wording = (self.template.positive, self.template.negative, self.template.prompt or "")
        used = {slot for text in wording for slot in slots_of(text)}
        if missing := sorted(used - self.slots.keys()):
            raise ValueError(f"the wording uses {_braced(missing)} but `slots` has no such key")
        if unused := sorted(self.slots.keys() - used):
            raise ValueError(f"`slots` has {', '.join(unused)}, which the wording never uses")
        sided = [slot for slot in slots_of(self.template.prompt or "") if isinstance(self.slots[slot], SidedValues)]
        if sided:
            raise ValueError(f"the prompt is shared by both sides, so {_braced(sided)} in it cannot differ by side")
        return self


def slots_of(text: str) -> list[str]:
    """Names of the slots in `text`, in their order. Raises ValueError for braces that do not match."""
    slots = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(text) if name is not None]
    names = [name for name, _, _ in slots]
    if odd := [name for name, spec, how in slots if not name.isidentifier() or spec or how]:
        raise ValueError(f"{_braced(odd)} is no slot: slots are single words, and a brace is written twice: {{{{ }}}}")
    return names


def expanded_pairs(template: Template) -> tuple[Pair, ...]:
    """`count` different pairs, or all there are where there are fewer, drawn evenly from all combinations of values."""
    names = sorted(template.slots)
    choices = [_choices(template.slots[name]) for name in names]
    total = math.prod(len(values) for values in choices)
    if total > MAX_COMBINATIONS:
        raise ConceptError(
            f"the slots have {total:,} combinations, more than {MAX_COMBINATIONS:,}: shorten their lists"
        )
    drawn = random.Random(seed_from("template", template.seed)).sample(range(total), min(total, template.count))
    pairs = (_pair(template.template, dict(zip(names, _combination(choices, i), strict=True))) for i in sorted(drawn))
    return tuple({pair.pair_id: pair for pair in pairs}.values())


def expanded(template: Template, name: str) -> Concept:
    """The concept of a template, called `name` where the template brings no name."""
    given = template.model_dump(exclude={"template", "slots", "count", "seed", "name"})
    pairs = [pair.model_dump() for pair in expanded_pairs(template)]
    given |= {"name": template.name or name, "pairs": pairs}
    if template.chat is None:
        del given["chat"]  # then the concept decides by its pairs
    return checked(Concept, given, f"the concept of the template {name}", ConceptError)


def _choices(values: Sequence[str] | SidedValues) -> list[tuple[str, str]]:
    """Values as (positive, negative)."""
    if not isinstance(values, SidedValues):
        return [(value, value) for value in values]
    longest = max(len(values.positive), len(values.negative))
    sides: Iterator[tuple[str, str]] = zip(
        itertools.cycle(values.positive), itertools.cycle(values.negative), strict=False
    )
    return list(itertools.islice(sides, longest))


def _combination(choices: Sequence[Sequence[tuple[str, str]]], index: int) -> list[tuple[str, str]]:
    """Combination number `index` of all, the last slot running fastest."""
    picked = []
    for values in reversed(choices):
        index, at = divmod(index, len(values))
        picked.append(values[at])
    return picked[::-1]


def _pair(wording: Wording, values: Mapping[str, tuple[str, str]]) -> Pair:
    positive = {name: value[0] for name, value in values.items()}
    negative = {name: value[1] for name, value in values.items()}
    given = {
        "positive": wording.positive.format(**positive),
        "negative": wording.negative.format(**negative),
        "prompt": wording.prompt.format(**positive) if wording.prompt else None,
    }
    return checked(Pair, given, f"the pair of the slots' values {written(values)}", ConceptError)


def _braced(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
