"""`steer runs`: what ran, what came of it, and what changed since the time before."""

from typing import Annotated

import typer

from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.foundation.bounds import MAX_SHOWN
from steering_core.foundation.errors import QueryError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.reports.fitting import LEAST_ID
from steering_core.reports.printing import Format, console, print_rows
from steering_core.reports.unfinished import unfinished
from steering_core.store import Store, default_store
from steering_core.store.queries import named_query
from steering_core.store.values import rows_of

app = typer.Typer()


@app.command()
def runs(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep or run: its cells are listed; `last` is the newest one.")
    ] = None,
    store: StoreOption = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_SHOWN, help="How many sweeps are listed.")] = 20,
    form: FormatOption = Format.TABLE,
) -> None:
    """List sweeps and runs, newest first; with a sweep's name every cell of it, its change and its regressions."""
    opened = Store.existing(store or default_store())
    if sweep is None:
        found = opened.query(named_query("sweeps"), [limit])
        if form is Format.TABLE and not found.num_rows:
            console().print(_none_ended(opened), soft_wrap=True)
            return
    else:
        found = opened.query(named_query("cells_of_sweep"), [_named(opened, sweep)])
    print_rows(rows_of(found), found.column_names, form)


def _named(store: Store, sweep: str) -> str:
    """The sweep or run of that name. Raises QueryError where there is none."""
    rows = store.rows("SELECT sweep FROM raw.outcomes GROUP BY sweep ORDER BY max(finished_at) DESC")
    names = [row["sweep"] for row in rows]
    if not names:
        raise QueryError(f"there is no {sweep!r} yet: {_none_ended(store)}")
    if sweep == "last":
        return str(names[0])
    begun = [name for name in names if name.startswith(sweep)]
    if sweep not in names and len(begun) == 1 and len(sweep) >= LEAST_ID:
        return str(begun[0])  # a run's own key, as a table shortens it
    if sweep not in names:
        raise QueryError(f"the store {store.root} has no sweep {sweep!r}; {did_you_mean(sweep, names)}")
    return sweep


def _none_ended(store: Store) -> str:
    """That no run has ended in the store, and what of one that began lies there."""
    return f"No run has come to its end in {store.root}. {unfinished(store)}".rstrip()
