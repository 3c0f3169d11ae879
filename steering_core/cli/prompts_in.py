"""Prompts from a user's text file."""

from pathlib import Path

from steering_core.errors import PromptError


def lines(path: Path) -> list[str]:
    """The lines of a text file that say something. Raises PromptError where it cannot be read, or says nothing."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} cannot be read as text: {error}") from error
    if kept := [line for line in found if line]:
        return kept
    raise PromptError(f"{path} holds no prompts: write one a line")
