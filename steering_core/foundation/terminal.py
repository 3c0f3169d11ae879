"""Terminals: texts of models, concepts, stores and files are shown there and take no effect.

A terminal obeys control characters: a concept's name may clear the screen, rename the window or turn what follows
around. Whatever a verb prints for people passes here, and shows them as escapes. What goes into files and pipes as data
stays as it is.
"""

import io
import re
import sys
from typing import Any, TextIO, cast

STOPPED = "Stopped. What was computed is kept in the store; the same command goes on from there."
"""What a run says that Ctrl-C ended."""

_EFFECTIVE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")


def harmless(text: str) -> str:
    """`text` with every character that a terminal would obey, but line breaks and tabs, as an escape: `\\u001b`.

    These are the control characters, those that reverse the direction of what follows (U+202E and its kin), and halves
    of surrogate pairs, which no output can have.
    """
    return _EFFECTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Shown:
    """A stream that writes what is harmless to `stream`, and is that stream in all else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self.stream.write(harmless(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard_stdout() -> None:
    """Have what this process prints on a terminal's standard output be harmless. Elsewhere it is data, and stays.

    What the output's encoding lacks is escaped everywhere.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout.isatty():
        sys.stdout = cast(TextIO, _Shown(sys.stdout))


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind a guarded one, for what has made its texts harmless and sends commands of its own."""
    return stream.stream if isinstance(stream, _Shown) else stream
