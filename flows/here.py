"""Discover-vectors as a command: its report is printed, and a user's mistake is one line."""

import signal
import sys

from flows.discover_vectors import discover_vectors
from steering_core.foundation.errors import RunIncomplete, SteerflowError
from steering_core.foundation.terminal import STOPPED
from steering_core.reports.terminal import print_report
from steering_core.store import Store, default_store


def discover(spec: str) -> int:
    """Run the spec as a flow and print its report; 0, 2 for a user's mistake, 130 where Ctrl-C stopped it."""
    try:
        report = discover_vectors(spec=spec)
    except RunIncomplete as error:
        print_report(Store(default_store()), error.report)
        sys.stderr.write(f"{type(error).__name__} {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{STOPPED}\n")
        return 128 + signal.SIGINT
    except SteerflowError as error:
        sys.stderr.write(f"{type(error).__name__} {error}\n")
        return 2
    print_report(Store(default_store()), report)
    return 0
