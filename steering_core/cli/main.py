"""`steer`: finds the verb's module, and turns a SteerflowError into one paragraph and exit code 2."""

import errno
import functools
import importlib
import logging
import os
import signal
import sys
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from steering_core.cli.shared.misuse import Abort, NoArgsIsHelpError, UsageError, checked_value, misuse, store_given
from steering_core.foundation.cautions import print_plainly
from steering_core.foundation.errors import DiskFull, SteerflowError, WordUnknown
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.terminal import STOPPED, guard_stdout, harmless
from steering_core.foundation.validation import shown
from steering_core.reports.printing import WIDE, SafeConsole
from steering_core.store.commands import commands_at_store

VERBS = {
    "run": "Run a spec: extract, derive, generate, score, recommend.",
    "concepts": "Contrast data: list, show, lint, new, import, generate, results.",
    "generate": "Generate under any intervention, beside the unsteered text if you like.",
    "chat": "Talk to a model, and change its steering on the fly.",
    "monitor": "Read along with a conversation: each token on probes, and a verdict for each turn.",
    "screen": "Screen a data set of answers with vectors, before somebody trains on it.",
    "runs": "What ran, what came of it, and what changed since.",
    "calibrate": "The largest alpha within the damage bounds, measured, beside the rules of thumb.",
    "sweep-layers": "Which layer steers best at equal damage, compared with chance.",
    "judge": "Whether a language model may be trusted to rate texts, by texts of known quality.",
    "stability": "Whether other seeds, and halves of the pairs, recommend the same.",
    "capabilities": "What steering does to arithmetic, facts, refusals and the like; without a model, the sets.",
    "report": "The evidence as one HTML file: verdicts, pictures, leaderboards, texts.",
    "extract": "Store activations of a concept or of your own prompts, at any site and position.",
    "vectors": "The library: list, show, compare, derive, discover, blend, export, import, chart.",
    "bake": "Write a steered model as a folder that mlx-lm opens by itself, or as an adapter.",
    "sql": "Ask the store anything, in SQL.",
    "plan": "What a spec would cost, in tokens, memory and time, before anything runs.",
    "store": "Look at the store, check it, tidy it, export a slice.",
    "explain": "What a word of the tables and reports means: dose, effect, nats, …",
    "explore": "Steer by hand in a browser, beside the evidence.",
}
MAY_BE_EMPTY = ("prompts", "stop", "system")  # texts: an empty system prompt is another one than none
MOST_SAID = 4_000  # letters of an error
GO_ON = ("run", "extract", "calibrate", "sweep-layers", "stability", "capabilities", "screen")
"""Verbs that store what they compute as they go, so that a second call does what the first did not."""


class Verbs(TyperGroup):
    """A group whose verbs are the modules beside this one, imported when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order in which people need them."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command: its module's `app`."""
        if cmd_name not in VERBS:
            raise WordUnknown(f"there is no verb {shown(cmd_name)}; {did_you_mean(cmd_name, VERBS)} `steer` lists them")
        module = importlib.import_module(f"steering_core.cli.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.params = [p for p in command.params if not str(p.name).endswith("_completion")]  # of no verb
        _mended(command)
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments without --wide, which any verb takes, wherever it stands."""
        end = args.index("--") if "--" in args else len(args)
        before = WIDE.set("--wide" in args[:end])
        ctx.call_on_close(lambda: WIDE.reset(before))
        return super().parse_args(ctx, [one for i, one in enumerate(args) if i >= end or one != "--wide"])

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, and have all that it printed arrive: a reader that has left ends it, without a word."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            if ctx.invoked_subcommand not in GO_ON:
                raise
            sys.stderr.write(f"{STOPPED}\n")
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            _print_nothing_more()
            sys.exit(128 + signal.SIGPIPE)  # as shells see a tool that the signal ended
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                _refuse(error)
                raise
            _print_nothing_more()
            where = error.filename or "standard output"
            raise DiskFull(f"no room for {where}: free some space, or write elsewhere, then run again") from error

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs, without loading any of them."""
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("Find, prove and apply steering vectors for language models on MLX.")
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        with formatter.section("Before the verb"):
            formatter.write_dl([("--allow-code FOLDER", "Let the model in this folder run Python of its own.")])
        with formatter.section("With any verb"):
            formatter.write_dl([("--wide", "Tables with all their columns, however wide the terminal is.")])
        formatter.write_paragraph()
        formatter.write_text("`steer VERB --help` says more.")


def _mended(command: Any) -> None:
    """Have a verb and its sub-verbs print help as it is written, and refuse values that are empty or no text.

    rich reads emoji and markup in help. An empty value is a variable of the shell that was never set: --store "" would
    be the usual store.
    """
    command.rich_markup_mode = None
    command.short_help = (command.help or "").partition("\n\n")[0]  # whole, where click would cut it
    for parameter in command.params:
        parameter.process_value = functools.partial(checked_value, parameter, parameter.name in MAY_BE_EMPTY)
    for one in getattr(command, "commands", {}).values():
        _mended(one)


def _refuse(error: OSError) -> None:
    """Raise SteerflowError where the system refuses a file by its name: then that is all a person needs to hear."""
    if error.filename is not None and error.strerror is not None:
        said = f"{shown(str(error.filename))}: {error.strerror}"
        raise SteerflowError(f"{said}; name another file or folder, or mend this one") from error


def _print_nothing_more() -> None:
    """Have what is still in standard output's buffer go nowhere when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Lines(logging.Handler):
    """What is logged, a line a message, on what is standard error now: progress bars put it above themselves.

    A message is not broken into lines, so that a command or a path in it can be copied whole.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message."""
        try:
            sys.stderr.write(f"{harmless(self.format(record))}\n")
        except OSError:
            self.handleError(record)


app = typer.Typer(
    cls=Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback()
def _steer(
    allow_code: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER", help="Let the model in this folder run Python of its own.")
    ] = None,
) -> None:
    """Find, prove and apply steering vectors for language models on MLX."""
    if allow_code:
        from steering_core.models import code  # loads MLX, which `steer --help` does without

        for folder in allow_code:
            code.allow_code(folder)


def main() -> None:
    """Entry point of `steer`. Exit 0; 2 for a user's mistake, with one paragraph on standard error."""
    guard_stdout()
    console = SafeConsole(stderr=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Lines()])
    for noisy in ("gguf", "httpx", "httpx2", "huggingface_hub", "filelock", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    print_plainly(lambda said: _say(console, Text("Warning", "yellow"), said))
    try:
        sys.exit(app(standalone_mode=False))
    except SteerflowError as error:
        _say(console, Text(type(error).__name__, "bold red"), str(error))
    except NoArgsIsHelpError as error:
        error.show()
    except UsageError as error:
        _say(console, Text("UsageError", "bold red"), misuse(error))
    except Abort:
        _say(console, Text("Stopped", "bold red"), "nothing was changed after this point")
        sys.exit(1)
    sys.exit(2)


def _say(console: SafeConsole, head: Text, text: str) -> None:
    """Print a sentence after its head: no markup, no emoji and no line breaks of its own, so that it can be copied.

    Commands in it name the store that this one was given.
    """
    if given := store_given(sys.argv[1:]):
        text = commands_at_store(text, given)
    if len(text) > MOST_SAID:  # a name of a hundred thousand letters, say
        text = f"{text[: MOST_SAID * 3 // 4]} … {text[-MOST_SAID // 4 :]}"
    console.print(head, end=" ")
    console.print(text, highlight=False, soft_wrap=True)
