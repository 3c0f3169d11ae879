"""What the words of tables, charts and reports mean."""

from steering_core.foundation.words import meaning


def explain(word: str) -> str:
    """What a word of the reports, or a column of the store's views, means: `explain("dose")`. Raises WordUnknown."""
    return meaning(word)
