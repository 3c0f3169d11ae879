"""Checks of closed answers: a letter, or the order of the options, must not give the matching answer away."""

import re
from collections import Counter
from collections.abc import Iterator

from steering_core.authoring.lint.finding import Finding, error, numbered, warning
from steering_core.authoring.lint.sides import are_closed, groups
from steering_core.authoring.lint.wording import words
from steering_core.concepts.concept import Concept, Item
from steering_core.foundation.validation import counted
from steering_core.scores.letters import asked_one_way

MAX_SHARE = 0.6
FEWEST = 10


def letters(concept: Concept) -> Iterator[Finding]:
    """Rows whose answers are few fixed ones (A and B, yes and no), one of which is mostly the matching one."""
    for kind, names, sides in groups(concept):
        if not are_closed(sides) or len(sides) < FEWEST:
            continue
        answer, n = Counter(side[0].strip() for side in sides).most_common(1)[0]
        if n / len(sides) > MAX_SHARE:
            rows = [name for name, side in zip(names, sides, strict=True) if side[0].strip() == answer]
            message = f"{answer!r} is the matching answer of {n} of {len(sides)} {kind}s"
            yield error("letters", message, "exchange the options in half of the rows (import --balance does)", rows)


def options_on_lines(concept: Concept) -> Iterator[Finding]:
    """Items answered by letters whose options cannot be exchanged: a liking for a letter stays in the effect."""
    rows = [numbered("item", i) for i, item in enumerate(concept.items) if asked_one_way(item)]
    if rows:
        verb = "is" if len(rows) == 1 else "are"
        message = f"{counted(len(rows), 'item')} answered by letters {verb} asked one way round only"
        yield warning("letters", message, "write each option on a line of its own: `(A) Yes`, then `(B) No`", rows)


def option_order(concept: Concept) -> Iterator[Finding]:
    """Choice items that name the matching option first, or last, too often."""
    if are_closed([(item.matching, item.not_matching) for item in concept.items]):
        return  # letters name the options there
    first = {i: found for i, item in enumerate(concept.items) if (found := matching_first(item)) is not None}
    share = sum(first.values()) / len(first) if first else 0.5
    if len(first) >= FEWEST and not 1 - MAX_SHARE <= share <= MAX_SHARE:
        rows = [numbered("item", i) for i, found in first.items() if found == (share > 0.5)]
        where = "first" if share > 0.5 else "last"
        message = f"the matching option is named {where} in {len(rows)} of {len(first)} choice items"
        yield error("order", message, "turn the order round in some of these items", rows)


def matching_first(item: Item) -> bool | None:
    """Whether the prompt's last choice, "… or …", names the matching option first; None where that does not show."""
    asked = next((part for part in reversed(re.split(r"[.!?]\s", item.prompt)) if "or" in words(part)), None)
    if asked is None:
        return None
    named = words(asked)
    at = len(named) - 1 - named[::-1].index("or")
    before, after = set(named[:at]), set(named[at:])
    mine, other = set(words(item.matching)), set(words(item.not_matching))
    own, others = mine - other, other - mine
    lean = len(own & before) - len(own & after) - len(others & before) + len(others & after)
    return lean > 0 if lean else None
