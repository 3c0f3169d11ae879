"""Warnings that name the line of whoever called this package, and that the command line prints as a sentence."""

import sys
import warnings
from typing import Any

from steering_core.foundation.errors import SteeringWarning

_OWN = "steering_core"


def warn(message: str) -> None:
    """Warn (SteeringWarning) at the nearest caller outside of this package; Python shows it once a line and message."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _OWN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, SteeringWarning, stacklevel=level)


def print_plainly(show: Any) -> None:
    """Have `show`, a function of a sentence, print every SteeringWarning of this process once; other warnings stay."""
    others, said = warnings.showwarning, set[str]()

    def shown(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        """Show a caution once, by `show`; leave every other warning to what showed it before."""
        if not issubclass(category, SteeringWarning):
            others(message, category, *where, **more)
        elif str(message) not in said:  # Python forgets what it showed wherever a library touches the filters
            said.add(str(message))
            show(str(message))

    warnings.showwarning = shown
