"""Conversations as lists of messages (`role` and `content`, or `from` and `value`), and as one text."""

from dataclasses import dataclass
from typing import Any

ANSWERING = ("assistant", "gpt", "model", "chosen", "bot", "chatbot")
SYSTEM = ("system", "developer")
_KEYS = (("role", "content"), ("from", "value"))


@dataclass(frozen=True)
class Turn:
    """One message: who says it, and what."""

    role: str
    text: str

    @property
    def answers(self) -> bool:
        """Whether the model says it."""
        return self.role in ANSWERING


def turns_of(value: Any) -> tuple[Turn, ...] | None:
    """The messages of a list of messages; None where `value` is no such list."""
    turns = [_turn(message) for message in value] if isinstance(value, list) else []
    return tuple(turn for turn in turns if turn) if turns and all(turns) else None


def _turn(message: Any) -> Turn | None:
    if not isinstance(message, dict):
        return None
    found = [(message[role], message[content]) for role, content in _KEYS if role in message and content in message]
    role, content = found[0] if found else (None, None)
    if isinstance(content, list):  # parts, of which those of text are read
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    return Turn(role.lower(), content) if isinstance(role, str) and isinstance(content, str) else None


def conversation_text(turns: tuple[Turn, ...]) -> str:
    """What comes before an answer, as one text: the user's words below those of the system, or else a transcript."""
    system = [turn.text for turn in turns if turn.role in SYSTEM]
    said = [turn for turn in turns if turn.role not in SYSTEM]
    if len(said) > 1:
        spoken = [f"{'Assistant' if turn.answers else 'User'}: {turn.text}" for turn in said]
    else:
        spoken = [turn.text for turn in said]
    return "\n\n".join(text for text in (*system, *spoken) if text.strip())
