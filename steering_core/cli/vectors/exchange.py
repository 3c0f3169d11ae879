"""Vectors for others and from others: `export` and `import` of one file, `pack` and `unpack` of a folder to share."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from steering_core.cli.shared.named_vectors import (
    Called,
    EveryLayer,
    ModelName,
    OfLayers,
    name_of,
    one_a_layer,
    print_made,
    told,
)
from steering_core.cli.shared.options import StoreOption
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.exports.files import FORMS, check_purpose, export_vectors, import_vectors
from steering_core.exports.foreign import ForeignReading
from steering_core.exports.tensor_names import Convention
from steering_core.exports.vector_file import FileOperation
from steering_core.foundation.bounds import MAX_ALPHA, MAX_LAYER
from steering_core.foundation.cautions import warn
from steering_core.interventions.safe_range import unsaid_strength
from steering_core.models import open_model
from steering_core.packs.pack import pack
from steering_core.packs.unpack import unpack
from steering_core.store import Store, default_store
from steering_core.vectors import algebra
from steering_core.vectors.vector import Vector

_MAX_POSITION = 1_000_000


def export_file(
    text: Called,
    to: Annotated[Path, typer.Option(help="FILE.safetensors, .gguf (llama.cpp, repeng), .pt, .svec, .npz or .npy.")],
    alpha: Annotated[
        float | None,
        typer.Option(
            min=-MAX_ALPHA,
            max=MAX_ALPHA,
            help="Times this; a reader that scales by 1 then steers with it. The recommended strength, or 1.",
        ),
    ] = None,
    operation: Annotated[
        FileOperation, typer.Option(help="What a GGUF file declares (GLP): added, or projected out at length 1.")
    ] = FileOperation.ADD,
    model: ModelName = None,
    layers: OfLayers = None,
    all_layers: EveryLayer = False,
    store: StoreOption = None,
) -> None:
    """Write what a name means, its recommendation or the layers asked for, to a file that other tools read."""
    opened = Store.existing(store or default_store())
    vectors = one_a_layer(opened, text, model, layers_asked_for(layers, all_layers))
    alphas = [v.usual_alpha if alpha is None else alpha for v in vectors]
    check_purpose(vectors, to, operation)  # what is scaled is a vector of its own, which may be added
    scaled = [v if a == 1.0 else algebra.scaled(v, a) for v, a in zip(vectors, alphas, strict=True)]
    written = export_vectors(opened, scaled, to, operation)
    typer.echo(f"{to}: {told(written)}")
    unsaid = [v.dose(1.0) for v in vectors if v.lacks_strength and v.residual_norm > 0]
    if unsaid and alpha is None and operation is FileOperation.ADD:
        warn(unsaid_strength(text, unsaid))
    if alpha is None and any(a != 1.0 for a in alphas):
        by = ", ".join(f"{a:.4g}" for a in alphas)
        typer.echo(
            f"Scaled by the recommended alpha, {by}: a reader steers with 1 of it (--alpha 1 leaves it as it is)."
        )


def import_file(
    path: Annotated[Path, typer.Argument(help=f"A file of vectors: {', '.join(FORMS)}.")],
    name: Annotated[str | None, typer.Option(help="What they go by; as they did, or the file's name.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that they are for, where the file does not say.")] = None,
    tensor: Annotated[str | None, typer.Option(help="Only this tensor of the file.")] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, max=MAX_LAYER, help="The layer of a direction, as --convention counts.")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(min=-_MAX_POSITION, max=_MAX_POSITION, help="The row of an array (positions, layers, D)."),
    ] = None,
    convention: Annotated[
        Convention | None, typer.Option(help="N is block N's output (resid_post), its input, or hidden_states[N].")
    ] = None,
    operation: Annotated[
        FileOperation, typer.Option(help="What the vectors are for, where a GGUF file declares it (GLP).")
    ] = FileOperation.ADD,
    store: StoreOption = None,
) -> None:
    """Take vectors from a file into the library, those of other tools by their names, their shape and these options."""
    opened = Store(store or default_store())
    reading = ForeignReading(tensor, layer, position, convention, operation)
    with open_model(model) if model else contextlib.nullcontext() as loaded:
        vectors = import_vectors(opened, path, loaded, name, reading)
    called = name_of(opened, vectors[0])
    print_made(vectors, called)
    if known := _originals_of(opened, vectors):
        typer.echo(f"The same direction as {known}, which keeps its name: what goes by {called} is a copy.")


def _originals_of(store: Store, vectors: Sequence[Vector]) -> str:
    """The names of the vectors that these are copies of; "" where these are no copies."""
    copied = [i for vector in vectors if vector.lineage.get("made") == "copied" for i in vector.lineage["of"]]
    rows = store.rows("SELECT DISTINCT name FROM vectors WHERE list_contains(?, vector_id) ORDER BY name", [copied])
    return ", ".join(row["name"] for row in rows if row["name"])


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
