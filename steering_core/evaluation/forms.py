"""Forms of answers: whether an effect holds for every answer that items have in common, such as Yes and No.

Where items are answered by one word, such as Yes, a direction may make that word likelier whichever side it stands for.
Then the effect is positive on items that the word matches, and negative on items that the other word matches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steering_core.concepts import Item
from steering_core.statistics.intervals import mean_interval

MIN_OF_FORM = 3  # items of one form that say something about it


@dataclass(frozen=True)
class Forms:
    """Effects of items grouped by the matching answer, where few answers serve all items; signs are the candidate's."""

    effects: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item], effects: Mapping[str, float]) -> "Forms":
        """The effects by item, grouped by the matching answer; none where most items have their own answer."""
        by_answer: dict[str, list[float]] = {}
        for item in items:
            if item.item_id in effects:
                by_answer.setdefault(item.matching.strip().lower(), []).append(effects[item.item_id])
        common = {answer: found for answer, found in by_answer.items() if len(found) >= MIN_OF_FORM}
        answers_differ = len(common) > 1 and sum(map(len, common.values())) * 2 > sum(map(len, by_answer.values()))
        return cls(common if answers_differ else {})

    def conflict(self) -> str | None:
        """Where the effect is surely above 0 for one answer and surely below 0 for another, a sentence that says so."""
        ends = {answer: mean_interval(np.array(found)) for answer, found in self.effects.items()}
        up = [answer for answer, (_, low, _) in ends.items() if low > 0]
        down = [answer for answer, (_, _, high) in ends.items() if high < 0]
        if not up or not down:
            return None
        return (
            f"it moves an answer, not the concept: {ends[up[0]][0]:+.2f} nats where {up[0]!r} matches, "
            f"{ends[down[0]][0]:+.2f} where {down[0]!r} does: balance the items' answers"
        )
