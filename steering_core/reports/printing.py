"""What verbs print: rows as a table, JSON or CSV, and progress on standard error."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from steering_core.foundation.json_values import plain
from steering_core.foundation.progress import Notify
from steering_core.foundation.terminal import harmless, unguarded
from steering_core.reports.fitting import fitted, shown
from steering_core.store import TableRows

__all__ = ["WIDE", "Format", "SafeConsole", "console", "print_json", "print_rows", "progress_bars", "shown", "table"]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def print_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str], form: Format = Format.TABLE) -> None:
    """Print `rows` on standard output. JSON is one array of objects; of an empty table standard error says so."""
    if form is Format.JSON:
        print_json([dict(row) for row in rows])
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_csv_value(row[name]) for name in names] for row in rows)
    else:
        out = SafeConsole(width=UNBOUNDED) if WIDE.get() else console()
        out.print(table(rows, names))
        if not rows:
            sys.stderr.write("0 rows\n")


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    json.dump(plain(value), sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")


WIDE: ContextVar[bool] = ContextVar("wide", default=False)
"""Whether tables are as wide as they like: what --wide asks for."""
UNBOUNDED = 10_000  # columns of a table with --wide
NO_TERMINAL = 200  # columns where standard output is no terminal


def console() -> Console:
    """Standard output; 200 wide, or what COLUMNS says, where it is no terminal, and no less with --wide."""
    out = SafeConsole()
    if out.width < NO_TERMINAL and WIDE.get():
        return SafeConsole(width=NO_TERMINAL)
    return out if out.is_terminal or "COLUMNS" in os.environ else SafeConsole(width=NO_TERMINAL)


class SafeConsole(Console):
    """rich's console, whose only commands to a terminal are its own: texts are shown as they are, and take no effect.

    Neither control characters nor rich's own markup (`[bold]`) and emoji (`:smile:`) are read in them.
    """

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        file = unguarded(sys.stderr if stderr else sys.stdout)
        super().__init__(file=file, stderr=stderr, width=width, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The pieces of what is printed; controls that are not rich's own stand there as escapes."""
        for piece in super().render(renderable, options):
            yield piece if piece.is_control else piece._replace(text=harmless(piece.text))

    def on_broken_pipe(self) -> None:
        """Leave it to `main`, as for everything else that is printed; rich would exit by itself."""
        raise


def table(rows: TableRows, names: Sequence[str], title: str | None = None) -> RenderableType:
    """Rows as a table that fits standard output, with the columns that matter most (`fitting`); all with --wide."""
    return fitted(rows, names, None if WIDE.get() else console().width, title)


def _csv_value(value: Any) -> Any:
    if hasattr(value, "nanoseconds") or isinstance(value, bytes):  # Arrow's interval, which is a tuple; a blob
        return plain(value)
    return json.dumps(plain(value), ensure_ascii=False) if isinstance(value, list | dict) else value


@contextlib.contextmanager
def progress_bars() -> Iterator[Notify]:
    """A function (what, done, total) that draws one bar on standard error for each step it hears of.

    Where standard error is no terminal it writes a line when a step begins, so that a log grows while a run goes on.
    """
    if not sys.stderr.isatty():
        yield _told_steps()
        return
    columns = (
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=SafeConsole(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def notify(what: str, done: int, total: int) -> None:
            """Draw the bar of a step as far as it is done; a new one where the last has finished."""
            if what not in tasks or bars.tasks[tasks[what]].finished:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield notify


def _told_steps() -> Notify:
    """A function (what, done, total) that writes a line on standard error for each step that begins."""
    under_way: set[str] = set()

    def notify(what: str, done: int, total: int) -> None:
        """Name a step with its size where it begins; it begins anew where the last of that name has finished."""
        if what not in under_way:
            sys.stderr.write(f"{what}: {total}\n")
            sys.stderr.flush()
        (under_way.add if done < total else under_way.discard)(what)

    return notify
