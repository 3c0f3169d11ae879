"""Why a concept holds nothing out: too few different prompts, since rows on one prompt stay together in a split."""

from steering_core.concepts.concept import PAIR_SHARES, SIDES, Concept, Example, Pair
from steering_core.foundation.validation import counted, shown

FEWEST_GROUPS = 5  # of which each of three splits has one
SHOWN = 3
REMEDY = "ask more questions, at least 5 different ones, or leave the prompts out, so that each row is dealt by itself"


def empty_splits(concept: Concept) -> list[str]:
    """The splits of the contrast that lack a text of either side."""
    return [split for split, _ in PAIR_SHARES if not all(concept.texts_in(split, side) for side in SIDES)]


def lack_of_prompts(concept: Concept) -> str:
    """That rows share so few prompts that a split stays empty, and which prompts; "" where that is not so."""
    rows: tuple[Pair | Example, ...] = concept.pairs
    if concept.unpaired is not None:
        rows = (*concept.unpaired.positive, *concept.unpaired.negative)
    dealt = [row.prompt for row in rows if row.split is None]
    prompts = list(dict.fromkeys(prompt for prompt in dealt if prompt))
    enough = len(dealt) >= FEWEST_GROUPS > len(prompts) and all(dealt)
    empty = empty_splits(concept) if enough else []
    if not empty:
        return ""
    more = f" and {len(prompts) - SHOWN} more" if len(prompts) > SHOWN else ""
    named = ", ".join(map(shown, prompts[:SHOWN])) + more
    noun = "text" if concept.unpaired else "pair"
    return (
        f"no {noun} is held out for {' or '.join(empty)}: rows on one prompt stay together in a split, and all "
        f"{counted(len(dealt), noun)} stand on {counted(len(prompts), 'prompt')} ({named})"
    )
