"""Concepts: behaviours as contrast data.

`concept` is the form (pairs, prompts, items, splits), `library` finds concepts by name or file, `formats` reads other
people's files, `templates` expands slots, `neutral` holds prompts that are about nothing in particular.
"""

from steering_core.concepts.concept import SIDES, Concept, Item, Pair, Side, SidedText, Split
from steering_core.concepts.library import available_concepts, load_concept
from steering_core.concepts.neutral import neutral_prompts

__all__ = [
    "SIDES",
    "Concept",
    "Item",
    "Pair",
    "Side",
    "SidedText",
    "Split",
    "available_concepts",
    "load_concept",
    "neutral_prompts",
]
