"""Concepts: behaviours as contrast data.

`concept` is the form (pairs, prompts, items, splits), `library` finds them by name.
"""

from steering_core.concepts.concept import SIDES, Concept, Item, Pair, Side, Split
from steering_core.concepts.library import available_concepts, load_concept

__all__ = ["SIDES", "Concept", "Item", "Pair", "Side", "Split", "available_concepts", "load_concept"]
