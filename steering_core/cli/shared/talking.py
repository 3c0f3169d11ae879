"""A conversation in a terminal: lines in, what comes of each out."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from steering_core.foundation.errors import SteerflowError

Piece = TypeVar("Piece")


class Left(Exception):
    """The user wants to leave."""


def talk(hear: Callable[[str], Iterable[Piece]], say: Callable[[Piece], object]) -> None:
    """Say what `hear` makes of each line, until the input ends or `hear` raises Left. A mistake ends nothing."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
            for piece in hear(line):
                say(piece)
                sys.stdout.flush()
        except (EOFError, Left):
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
        except SteerflowError as fault:
            sys.stdout.write(f"{fault}\n")
