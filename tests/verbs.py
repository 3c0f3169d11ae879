"""Verbs of the command line, run in place."""

import importlib
import json

from typer.testing import CliRunner

from steering_core.cli.main import VERBS


def typed(app: object, *arguments: str) -> list[dict[str, object]]:
    """The rows that a verb prints as JSON; what it raises is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, standalone_mode=False)  # type: ignore[arg-type]
    return json.loads(done.stdout)


def import_verbs() -> None:
    """Import every verb's module, which is some seconds of work, so that no test that reads a clock counts it."""
    for verb in VERBS:
        importlib.import_module(f"steering_core.cli.{verb.replace('-', '_')}")
