"""Both sides of a concept two by two, so that one check compares pairs and unpaired texts alike."""

from steering_core.authoring.lint.finding import numbered
from steering_core.concepts.concept import Concept, SidedText, Split
from steering_core.foundation.keys import content_key


def sided_pairs(concept: Concept, split: Split | None = None) -> list[tuple[SidedText, SidedText]]:
    """The positive and the negative text of each pair, of one split or of all.

    Unpaired texts are put together in an order that their content fixes; what the larger side has more is left out, so
    that no text counts twice.
    """
    texts = [text for text in concept.texts if split in (None, text.split)]
    positive, negative = ([text for text in texts if text.side == side] for side in ("positive", "negative"))
    if concept.unpaired is not None:
        positive, negative = (sorted(side, key=_rank) for side in (positive, negative))
    return list(zip(positive, negative, strict=False))


def _rank(text: SidedText) -> str:
    return content_key("put together", text.row_id)


def row_name(text: SidedText) -> str:
    """What a finding calls the row of a text of an unpaired concept: "positive 3"."""
    return numbered(text.side, text.ordinal)


def pair_name(positive: SidedText, negative: SidedText) -> str:
    """What a finding calls two texts: "pair 3", or both rows of unpaired texts."""
    if positive.row_id == negative.row_id:
        return numbered("pair", positive.ordinal)
    return f"{row_name(positive)} and {row_name(negative)}"
