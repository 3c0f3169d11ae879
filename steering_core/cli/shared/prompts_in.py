"""Prompts from a user's text file."""

from pathlib import Path

from steering_core.foundation.errors import PromptError
from steering_core.foundation.user_files import MAX_PROMPTS_FILE, file_text


def lines(path: Path) -> list[str]:
    """The lines of a text file that say something. Raises PromptError where it cannot be read, or says nothing."""
    found = [line.strip() for line in file_text(path, PromptError, MAX_PROMPTS_FILE).splitlines()]
    if kept := [line for line in found if line]:
        return kept
    raise PromptError(f"{path} holds no prompts: write one a line")
