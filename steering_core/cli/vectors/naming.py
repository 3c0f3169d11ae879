"""What vectors of the library go by: `name`, `tag` and `rm`."""

from typing import Annotated

import typer

from steering_core.cli.shared.named_vectors import (
    Called,
    EveryLayer,
    ModelName,
    OfLayers,
    identity_of,
    one_a_layer,
    print_made,
)
from steering_core.cli.shared.options import StoreOption
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.store import Store, default_store
from steering_core.vectors import library, saving


def name(
    text: Called,
    new: Annotated[str, typer.Argument(help="What it goes by from now on.")],
    model: ModelName = None,
    layers: OfLayers = None,
    all_layers: EveryLayer = False,
    store: StoreOption = None,
) -> None:
    """Give what a name means, its recommendation or the layers asked for, a name."""
    opened = Store.existing(store or default_store())
    vectors = one_a_layer(opened, text, model, layers_asked_for(layers, all_layers))
    saving.rename(opened, vectors, new)
    print_made(vectors, new)


def tag(
    text: Called,
    label: Annotated[str, typer.Argument(help="The tag.")],
    off: Annotated[bool, typer.Option("--off", help="Take the tag away.")] = False,
    model: ModelName = None,
    store: StoreOption = None,
) -> None:
    """Tag every vector that goes by a name."""
    opened = Store.existing(store or default_store())
    vectors = library.find_all(opened, text, identity_of(opened, model))
    saving.tag(opened, vectors, label, holds=not off)
    typer.echo(f"{len(vectors)} {'no longer ' if off else ''}tagged {label}")


def rm(
    text: Called,
    model: ModelName = None,
    every: Annotated[bool, typer.Option("--all", help="All that go by it, where they are several.")] = False,
    store: StoreOption = None,
) -> None:
    """Take a vector out of the library. Results that came from it keep it, and importing it again brings it back."""
    opened = Store.existing(store or default_store())
    vectors = saving.remove_called(opened, text, identity_of(opened, model), every=every)
    typer.echo(f"removed {len(vectors)}: {', '.join(v.vector_id for v in vectors)}")
