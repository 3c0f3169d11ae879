"""The command line: `steer VERB`. The verb is the file; a verb's module is loaded only when it is called."""

from steering_core.cli.main import main

__all__ = ["main"]
