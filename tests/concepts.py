"""Concepts as their authors write them."""

import random

from steering_core.concepts import Concept, Item, Pair
from steering_core.concepts.concept import Card, Sides

QUESTION = "Shall we?\n\nChoices:\n (A) Yes, let us\n (B) No"
CARD = Card(what="a", made="b", biases="c", licence="d")
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


def sound_concept(**changes: object) -> Concept:
    """A concept without a fault: 64 pairs, 44 items, 12 open prompts, all of made-up words."""
    given = {
        "name": "sound",
        "description": "made up",
        "card": CARD,
        "instructions": Sides(positive="do", negative="do not"),
        "pairs": [
            Pair(prompt=gibberish(i), positive=gibberish(i + 1000), negative=gibberish(i + 2000)) for i in range(64)
        ],
        "items": [
            Item(prompt=gibberish(i + 3000), matching=gibberish(i + 4000), not_matching=gibberish(i + 5000))
            for i in range(44)
        ],
        "prompts": [gibberish(i + 6000) for i in range(12)],
    }
    return Concept.model_validate(given | changes)


def gibberish(seed: int, n: int = 9) -> str:
    """A sentence of made-up words: no two are alike, and none is on one side more often than by chance."""
    drawn = random.Random(seed)
    return " ".join("".join(drawn.choices(SYLLABLES, k=3)) for _ in range(n)).capitalize() + "."
