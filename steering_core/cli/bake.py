"""`steer bake MODEL --steer EXPRESSION --out FOLDER`: a steered model that plain mlx-lm opens, or an adapter."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from steering_core.baking.bake import bake as baked_into
from steering_core.baking.card import Baked
from steering_core.cli.shared.options import JsonOption, ModelArgument, StoreOption
from steering_core.reports.printing import Format, print_json, print_rows

app = typer.Typer()


@app.command()
def bake(
    model: ModelArgument,
    steer: Annotated[str, typer.Option("--steer", "-s", help='What to bake: "30%*formality @all" or "!refusal @all".')],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist, or be empty.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Write a LoRA adapter for --adapter-path; for what is taken out alone.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Take directions out of the embeddings as well; unties the head.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure effect and damage on the concept's held-out items.")
    ] = True,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model with an intervention inside it, as a folder that mlx-lm opens without steerflow."""
    found = baked_into(model, steer, out, store=store, adapter=adapter, embeddings=embeddings, measure=measure)
    if as_json:
        print_json(dataclasses.asdict(found) | {"folder": str(found.folder)})
    else:
        _print(found, measure)


def _print(found: Baked, measure: bool) -> None:
    typer.echo(f"{found.folder}: {found.says}. {found.nearness}")
    if found.rows:
        print_rows(found.rows, list(found.rows[0]), Format.TABLE)
    elif measure:
        typer.echo(
            "Effect and damage were not measured: the store has no held-out items of a concept of these vectors."
        )
    else:
        typer.echo("Effect and damage were not measured (--no-measure).")
    typer.echo(f"Open it with: {found.command(shlex.quote(str(found.folder)))}")
