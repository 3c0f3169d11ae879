"""Suggestions: what somebody may have meant by a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that leads from a wrong name to the right ones."""
    names = sorted(known)
    meant = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {meant[0]!r}?" if meant else f"there are: {', '.join(names) or 'none'}."
