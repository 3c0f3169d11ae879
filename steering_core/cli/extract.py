"""`steer extract MODEL WHAT`: have the store hold activations, of a concept's pairs or of prompts in a file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from steering_core.activations.capture import Reading
from steering_core.activations.extract import extract
from steering_core.activations.forecast import forecast
from steering_core.activations.sites import POSITIONS, SITE, SITES, checked_position, checked_site
from steering_core.cli.shared.options import ModelArgument, StoreOption, TemplateOption, template_arguments
from steering_core.cli.shared.prompts_in import lines
from steering_core.concepts import load_concept
from steering_core.foundation.errors import LayerNotFound, StoreError
from steering_core.models import Model, open_model
from steering_core.pipeline.rows import prompt_row, store_pairs
from steering_core.pipeline.stages import registered
from steering_core.prompts import Prompt, prompt
from steering_core.reports.printing import Format, print_rows, progress_bars
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command("extract")
def extract_prompts(
    model: ModelArgument,
    what: Annotated[str, typer.Argument(help="A concept's name or file, or a .txt file of prompts, one a line.")],
    layers: Annotated[str, typer.Option(help="all, or numbers with commas.")] = "all",
    position: Annotated[str, typer.Option(help=f"Which tokens: {', '.join(POSITIONS)}.")] = "last",
    site: Annotated[str, typer.Option(help=f"Where in a block: {', '.join(SITES)}.")] = SITE,
    raw: Annotated[bool, typer.Option("--raw", help="Prompts of a file without the chat template.")] = False,
    template: TemplateOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Store every token's activations without asking.")] = False,
    store: StoreOption = None,
    form: Annotated[Format, typer.Option("--format", help="How the result is printed.")] = Format.TABLE,
) -> None:
    """Store the activations of a concept's pairs, or of your own prompts; what is stored already is not run again."""
    checked_position(position)
    checked_site(site)
    opened = Store(store or default_store())
    with open_model(model, template_arguments(template)) as loaded, opened.in_use():
        reading = Reading(tuple(_layers(loaded, layers)), position, site)
        prompts = _prompts(loaded, opened, what, raw)
        if position == "all" and not yes:
            _agreed(loaded, opened, prompts, reading)
        with progress_bars() as notify:
            did = extract(
                loaded, opened, prompts, reading.layers, position, lambda n, of: notify("extract", n, of), site
            )
    work = did.work
    row: dict[str, float] = {"prompts": work.computed + work.reused, "computed": work.computed, "reused": work.reused}
    row |= {"tokens": work.tokens, "forward_passes": work.forward_passes, "seconds": work.seconds}
    print_rows([row], list(row), form)


def _layers(model: Model, text: str) -> list[int]:
    try:
        wanted = None if text == "all" else [int(number) for number in text.split(",")]
    except ValueError:
        raise LayerNotFound(f"--layers {text}: say all, or numbers with commas, as in 12,15") from None
    return model.checked_layers(wanted)


def _prompts(model: Model, store: Store, what: str, raw: bool) -> Sequence[Prompt]:
    registered(store, model)
    if not what.endswith(".txt"):
        return store_pairs(store, model, [load_concept(what)])
    chat = model.chat_template.exists and not raw
    prompts = [prompt(model, line, chat=chat) for line in lines(Path(what))]
    store.append("prompts", [prompt_row(p) for p in prompts])
    return prompts


def _agreed(model: Model, store: Store, prompts: Sequence[Prompt], reading: Reading) -> None:
    """Say how much every token's activations take, and ask. Raises StoreError where nobody can answer."""
    found = forecast(model, store, prompts, reading)
    if not found.computed:
        return
    says = f"{found.computed:,} prompts of {found.tokens:,} tokens take {found.bytes / 1e6:,.0f} MB before compression"
    if not sys.stdin.isatty():
        raise StoreError(f"{says}: add --yes to store every token")
    typer.confirm(f"{says}. Go on?", abort=True)
