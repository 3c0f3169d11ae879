"""`python -m flows [SPEC]`: discover-vectors here and now, on a Prefect server of its own that ends with it."""

import sys

from flows.service.temporary import start_temporary_server


def main() -> int:
    """Run the spec and print its report; 2 for a user's mistake."""
    server = start_temporary_server()
    from flows.here import discover  # takes as long as the server takes to start

    server.wait()
    return discover(sys.argv[1] if sys.argv[1:] else "quickstart")


if __name__ == "__main__":
    sys.exit(main())
