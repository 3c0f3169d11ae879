"""`python -m flows [SPEC]`: discover-vectors here and now, on Prefect's own ephemeral server."""

import sys

from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.discover_vectors import discover_vectors
from steering_core.errors import RunIncomplete, SteerflowError
from steering_core.reports import print_report
from steering_core.store import Store, default_store


def main() -> int:
    """Run the spec and print its report; 2 for a user's mistake."""
    try:
        with temporary_settings(restore_defaults={PREFECT_API_URL}):  # ephemeral, whatever pyproject.toml names
            report = discover_vectors(spec=sys.argv[1] if sys.argv[1:] else "quickstart")
    except RunIncomplete as error:
        print_report(Store(default_store()), error.report)
        sys.stderr.write(f"{type(error).__name__} {error}\n")
        return 2
    except SteerflowError as error:
        sys.stderr.write(f"{type(error).__name__} {error}\n")
        return 2
    print_report(Store(default_store()), report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
