"""What verbs print: rows as a table, JSON or CSV, and progress on standard error."""

import contextlib
import csv
import datetime
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from steering_core.foundation.json_values import plain


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def print_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str], form: Format = Format.TABLE) -> None:
    """Print `rows` on standard output. JSON is one array of objects."""
    if form is Format.JSON:
        json.dump([plain(dict(row)) for row in rows], sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_csv_value(row[name]) for name in names] for row in rows)
    else:
        console().print(table(rows, names))


def console() -> Console:
    """Standard output; wide enough for a table where it is no terminal."""
    out = _Console()
    return out if out.is_terminal else _Console(width=200)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`, as for everything else that is printed; rich would exit by itself."""
        raise


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str | None = None) -> Table:
    """Rows as a table: numbers to the right with three decimals, long values cut."""
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in names:
        numeric = any(isinstance(row[name], int | float) for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        drawn.add_row(*(Text(shown(row[name])) for name in names))
    return drawn


def shown(value: Any) -> str:
    """One value, short enough for a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return _decimals(value)
    if isinstance(value, list) and len(value) > 4:
        return f"[{', '.join(shown(v) for v in value[:3])}, … {len(value)} values]"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def _csv_value(value: Any) -> Any:
    return json.dumps(plain(value), ensure_ascii=False) if isinstance(value, list | dict) else value


def _decimals(value: float) -> str:
    """Three decimals; one strength computed in two ways looks one way, and what is not 0 does not look like it."""
    if value and abs(value) < 0.0005:
        return f"{value:.1e}"
    if not 0 < abs(value) < 1000:
        return f"{value + 0.0:.3f}"  # never -0.000
    return str(Decimal(f"{value:.6g}").quantize(Decimal("0.001"), ROUND_HALF_UP))


Notify = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress_bars() -> Iterator[Notify]:
    """A function (what, done, total) that draws one bar on standard error for each step it hears of."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def notify(what: str, done: int, total: int) -> None:
            if what not in tasks or bars.tasks[tasks[what]].finished:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield notify
