"""`steer store VERB`: what the store holds, and its upkeep."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from steering_core.cli.shared.options import FormatOption
from steering_core.foundation.errors import StoreDamaged
from steering_core.reports.printing import Format, print_rows
from steering_core.store import Store, default_store, garbage, upkeep
from steering_core.store.export import export_query
from steering_core.store.references import lost
from steering_core.store.wholeness import verify as verify_files

app = typer.Typer(no_args_is_help=True, help="Look at the store, check it, tidy it, take a slice of it.")

BEFORE_ITS_END = (
    "a run goes on in this store: what it has made so far may be listed here, since it refers to its rows at its end"
)
WAITING = "a run goes on in this store: waiting for its end"
At = Annotated[str | None, typer.Option("--store", help="Folder or URL of the store; STEERFLOW_STORE or data/store.")]


@app.command()
def info(
    store: At = None,
    form: FormatOption = Format.TABLE,
    runs: Annotated[bool, typer.Option(help="What every run computed and reused, instead.")] = False,
) -> None:
    """Rows, files and bytes of every table; with --runs what every run computed + reused."""
    opened = Store.existing(store or default_store())
    rows = upkeep.reuse(opened) if runs else upkeep.tables(opened)
    print_rows(rows, list(rows[0]) if rows else [], form)


@app.command()
def verify(store: At = None, form: FormatOption = Format.TABLE) -> None:
    """Read every file whole, checksums included; set damaged ones aside, to be made again. Exit 2 where there were.

    Exit 2 also where rows name models, vectors or recommendations that are not there.
    """
    opened = Store.existing(store or default_store())
    whole, faults = verify_files(opened.folder)
    if faults:
        print_rows([dataclasses.asdict(fault) for fault in faults], ["name", "reason", "set_aside"], form)
        raise StoreDamaged(f"{len(faults)} files were damaged and set aside; run your specs again to make them anew")
    if missing := lost(opened):
        raise StoreDamaged(
            f"every file of {opened.root} is whole, but rows are missing, and no view shows what refers to them: "
            f"{'; '.join(map(str, missing))}. Copy the store again with all of its folders, or run your specs again"
        )
    print_rows([{"whole_files": whole, "damaged_files": 0}], ["whole_files", "damaged_files"], form)


@app.command()
def compact(store: At = None, form: FormatOption = Format.TABLE) -> None:
    """Merge many small files into few, while others read and write."""
    _print_exchanged(upkeep.compact(Store.existing(store or default_store())), form)


@app.command()
def gc(
    store: At = None,
    form: FormatOption = Format.TABLE,
    drop: Annotated[bool, typer.Option("--drop", help="Drop them; without it they are only listed.")] = False,
) -> None:
    """List the rows that nothing refers to and that can be made again; with --drop, drop them, once no run goes on."""
    opened = Store.existing(store or default_store())
    if garbage.run_goes_on(opened):
        typer.echo(WAITING if drop else BEFORE_ITS_END, err=True)
    if drop:
        _print_exchanged(garbage.collect(opened), form)
    else:
        print_rows(garbage.unreferred(opened), ["table", "model", "rows", "bytes", "why"], form)


@app.command()
def export(
    query: Annotated[str, typer.Argument(help="SQL over the store's views.")],
    to: Annotated[Path, typer.Argument(help="The file to write: .parquet, .csv or .json.")],
    store: At = None,
) -> None:
    """Write the rows of a query as one file that other tools read."""
    rows = export_query(Store.existing(store or default_store()), query, to)
    print_rows([{"file": str(to), "rows": rows, "bytes": to.stat().st_size}], ["file", "rows", "bytes"])


def _print_exchanged(done: list[upkeep.Exchanged], form: Format) -> None:
    names = [field.name for field in dataclasses.fields(upkeep.Exchanged)]
    print_rows([dataclasses.asdict(one) for one in done], names, form)
