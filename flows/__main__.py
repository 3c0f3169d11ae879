"""`python -m flows [SPEC]`: discover-vectors here and now, on Prefect's own ephemeral server."""

import atexit
import os
import sys

_status = 1


def _leave() -> None:
    """End the process. Prefect's threads still hold DuckDB's module then, and nanobind would print pages of "leaks"."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


atexit.register(_leave)  # before Prefect registers its own handlers, so after them: its server is stopped by then

from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402

from flows.discover_vectors import discover_vectors  # noqa: E402
from steering_core.errors import SteerflowError  # noqa: E402
from steering_core.reports import print_report  # noqa: E402
from steering_core.store import Store, default_store  # noqa: E402

try:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):  # an ephemeral server, whatever pyproject.toml names
        report = discover_vectors(spec=sys.argv[1] if sys.argv[1:] else "quickstart")
    print_report(Store(default_store()), report)
    _status = 0
except SteerflowError as error:
    sys.stderr.write(f"{type(error).__name__} {error}\n")
    _status = 2
