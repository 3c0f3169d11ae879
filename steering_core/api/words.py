"""What the words of tables, charts and reports mean."""

from steering_core.foundation.words import meaning
from steering_core.vectors.methods import method_meanings


def explain(word: str) -> str:
    """What a word of the reports, a method, or a column of the store's views means: `explain("dose")`.

    Raises WordUnknown.
    """
    return meaning(word, method_meanings())
