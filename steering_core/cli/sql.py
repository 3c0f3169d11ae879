"""`steer sql "SELECT …"`: any question to the store."""

from typing import Annotated

import typer

from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.reports.printing import Format, print_rows
from steering_core.store import Store, default_store
from steering_core.store.values import rows_of

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SQL over the store's views; SHOW TABLES lists them.")],
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask the store anything, in SQL."""
    found = Store.existing(store or default_store()).answer(query)
    print_rows(rows_of(found), found.column_names, form)
