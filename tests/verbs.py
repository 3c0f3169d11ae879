"""Verbs of the command line, run in place."""

import json

from typer.testing import CliRunner


def typed(app: object, *arguments: str) -> list[dict[str, object]]:
    """The rows that a verb prints as JSON; what it raises is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, standalone_mode=False)  # type: ignore[arg-type]
    return json.loads(done.stdout)
