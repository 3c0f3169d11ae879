"""Questions with lettered choices: exchanging the options, so that no letter gives the answer away."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from steering_core.concepts.concept import Concept, Item, Pair
from steering_core.foundation.keys import content_key

_CHOICE = re.compile(r"^(\s*\(?)([A-Z])(\)|\.|:)\s*(.*?)\s*$", re.MULTILINE)
_LETTER = re.compile(r"^\s*\(?([A-Z])[).]?\s*$")

ChoiceRow = tuple[str, str, str]
"""Prompt, positive or matching answer, negative or not matching answer."""


def exchanged(row: ChoiceRow) -> ChoiceRow | None:
    """The row with its two lettered options, and so its answers, exchanged; None where it is no such question."""
    prompt, positive, negative = row
    options = list(_CHOICE.finditer(prompt))
    letters = [match[1] if (match := _LETTER.match(answer)) else None for answer in (positive, negative)]
    if len(options) != 2 or {option[2] for option in options} != set(letters):
        return None
    (a, b), texts = options, (options[1][4], options[0][4])
    swapped = prompt[: a.start(4)] + texts[0] + prompt[a.end(4) : b.start(4)] + texts[1] + prompt[b.end(4) :]
    return swapped, negative, positive


def balanced(concept: Concept) -> Concept:
    """The concept with every answer matching as often as not: options are exchanged, or else surplus rows dropped.

    Which rows change is fixed by their content. Concepts whose answers are sentences come back as they are.
    """
    pairs = [(pair.prompt or "", pair.positive, pair.negative) for pair in concept.pairs]
    items = [(item.prompt, item.matching, item.not_matching) for item in concept.items]
    return concept.model_copy(
        update={
            "pairs": tuple(
                Pair(prompt=prompt or None, positive=a, negative=b, split=concept.pairs[i].split)
                for i, (prompt, a, b) in _balanced(pairs)
            ),
            "items": tuple(
                Item(prompt=prompt, matching=a, not_matching=b, split=concept.items[i].split)
                for i, (prompt, a, b) in _balanced(items)
            ),
        }
    )


def _balanced(rows: Sequence[ChoiceRow]) -> list[tuple[int, ChoiceRow]]:
    """The rows that stay, each with its place among `rows`."""
    answers = Counter(answer for _, *both in rows for answer in both)
    if len(answers) != 2:
        return list(enumerate(rows))
    most = Counter(positive for _, positive, _ in rows).most_common(1)[0][0]
    surplus = [row for row in rows if row[1] == most]
    over = 2 * len(surplus) - len(rows)
    ranked = sorted(surplus, key=lambda row: content_key("balance", row))
    changes = {row: exchanged(row) for row in ranked}
    swap = [row for row in ranked if changes[row]][: over // 2]
    still_over = over - 2 * len(swap)
    drop = set([row for row in ranked if row not in swap][: max(still_over, 0)] if still_over > 1 else [])
    return list(_changed(rows, {row: changes[row] for row in swap}, drop))


def _changed(
    rows: Sequence[ChoiceRow], swapped: dict[ChoiceRow, ChoiceRow | None], dropped: set[ChoiceRow]
) -> Iterator[tuple[int, ChoiceRow]]:
    for i, row in enumerate(rows):
        if row not in dropped:
            yield i, swapped.get(row) or row
