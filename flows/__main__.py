"""`python -m flows [SPEC]`: discover-vectors here and now, on Prefect's own ephemeral server."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    temporary_settings,
)

from flows.discover_vectors import discover_vectors
from steering_core.foundation.errors import RunIncomplete, SteerflowError
from steering_core.reports.terminal import print_report
from steering_core.store import Store, default_store


@contextmanager
def own_server() -> Iterator[None]:
    """Flows within it have Prefect's ephemeral server, whatever else runs; it asks for a password drawn now."""
    password = f"steerflow:{secrets.token_urlsafe(24)}"
    settings = {
        PREFECT_API_AUTH_STRING: password,
        PREFECT_SERVER_API_AUTH_STRING: password,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "http://127.0.0.1",
    }
    with temporary_settings(settings, restore_defaults={PREFECT_API_URL}):
        yield


def main() -> int:
    """Run the spec and print its report; 2 for a user's mistake."""
    try:
        with own_server():
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
