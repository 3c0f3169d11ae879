"""`steer sql "SELECT …"`: any question to the store."""

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.foundation.errors import QueryError
from steering_core.reports.printing import Format, print_rows
from steering_core.store import Store, default_store
from steering_core.store.values import rows_of

app = typer.Typer()
_COMMENT = re.compile(r"--[^=\s]*\s")  # SQL that begins with a comment, as the named queries do; --store=A B is none


class _Sql(TyperCommand):
    """A command whose query may begin with a comment, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with such a query at their end, where no word is an option."""
        queries = [word for word in args if _COMMENT.match(word)]
        if queries and "--" not in args:
            args = [*(word for word in args if word not in queries), "--", *queries]
        return super().parse_args(ctx, args)


@app.command(cls=_Sql)
def sql(
    query: Annotated[
        str, typer.Argument(help="SQL over the store's views; SHOW TABLES lists them; - reads it from standard input.")
    ],
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask the store anything, in SQL."""
    found = Store.existing(store or default_store()).answer(_standard_input() if query == "-" else query)
    print_rows(rows_of(found), found.column_names, form)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as fault:
        raise QueryError(f"the SQL on standard input is no UTF-8: {fault}") from fault
