"""The sub-verbs of `steer vectors` that share vectors: `pack` and `unpack`."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from steering_core.cli.shared.named_vectors import ModelName, name_of, one_a_layer, print_made, told
from steering_core.cli.shared.options import StoreOption
from steering_core.models import open_model
from steering_core.packs.pack import pack
from steering_core.packs.unpack import unpack
from steering_core.store import Store, default_store


def register(app: typer.Typer) -> None:
    """Add these sub-verbs to `steer vectors`."""
    app.command("pack")(pack_vectors)
    app.command("unpack")(unpack_vectors)


def pack_vectors(
    text: Annotated[str, typer.Argument(metavar="NAME", help="A name, a key, or concept/method/layer.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist, or be empty.")],
    name: Annotated[
        str | None, typer.Option(help="What the pack calls them; their own name, or what they are.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of the vectors, as the hub spells it: mit, cc-by-4.0.")
    ] = None,
    model: ModelName = None,
    store: StoreOption = None,
) -> None:
    """Write vectors to a folder to share: safetensors, a card with what was measured, a chart, and hashes."""
    opened = Store.existing(store or default_store())
    vectors = one_a_layer(opened, text, model)
    called = pack(opened, vectors, out, name, licence)
    typer.echo(f"{out}: {called}, {told(vectors)}")


def unpack_vectors(
    source: Annotated[str, typer.Argument(help="A pack's folder, or hf:owner/name[@revision].")],
    name: Annotated[str | None, typer.Option(help="What they go by; as the pack calls them.")] = None,
    model: Annotated[str | None, typer.Option(help="Hold them against this model.")] = None,
    store: StoreOption = None,
) -> None:
    """Take the vectors of a pack into the library, after its hashes and its model were checked."""
    opened = Store(store or default_store())
    with open_model(model) if model else contextlib.nullcontext() as loaded:
        vectors = unpack(opened, source, loaded, name)
    print_made(vectors, name_of(opened, vectors[0]))
