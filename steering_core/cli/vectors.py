"""`steer vectors`: the library of vectors, their quality and meaning, their algebra and their files."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from steering_core.cli import vector_gates, vector_making, vector_packs
from steering_core.cli.shared.named_vectors import (
    EveryLayer,
    ModelName,
    OfLayers,
    identity_of,
    name_of,
    one_a_layer,
    print_made,
    told,
)
from steering_core.cli.shared.options import FormatOption, JsonOption, StoreOption
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.exports.files import FORMS, check_purpose, export_vectors, import_vectors
from steering_core.exports.foreign import ForeignReading
from steering_core.exports.tensor_names import Convention
from steering_core.exports.vector_file import FileOperation
from steering_core.foundation.bounds import MAX_ALPHA, MAX_LAYER, MAX_SHOWN
from steering_core.foundation.cautions import warn
from steering_core.foundation.errors import VectorError
from steering_core.interventions.safe_range import unsaid_strength
from steering_core.models import open_model
from steering_core.reports.printing import Format, console, print_json, print_rows
from steering_core.store import Store, default_store
from steering_core.store.values import rows_of
from steering_core.vectors import algebra, library, saving
from steering_core.vectors.library_rows import library_rows
from steering_core.vectors.meaning import extreme_prompts, promoted_tokens
from steering_core.vectors.vector import Vector, cosine

app = typer.Typer(no_args_is_help=True, help="The library of vectors: quality, meaning, algebra, files.")
for verbs in (vector_making, vector_gates, vector_packs):
    verbs.register(app)

Called = Annotated[str, typer.Argument(help="A name, a key, or concept/method/layer.")]
_MAX_POSITION = 1_000_000
_LISTED = [
    "vector_id",
    "name",
    "model",
    "concept",
    "method",
    "layer",
    "norm",
    "auc_test",
    "split_half",
    "n_pairs",
    "tags",
]


@app.command("list")
def list_vectors(
    text: Annotated[str | None, typer.Argument(help="Only those that go by this; all.")] = None,
    model: ModelName = None,
    controls: Annotated[bool, typer.Option("--controls", help="Random and shuffled-label controls as well.")] = False,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Every vector with its quality: AUC on test pairs, and the cosine of the directions of two halves."""
    rows = rows_of(library_rows(Store.existing(store or default_store()), text, model, controls=controls))
    names = [*_LISTED, "control"] if controls else _LISTED
    if rows and form is not Format.TABLE:
        names = list(rows[0])
    print_rows(rows, names, form)


@app.command()
def show(
    text: Called,
    model: ModelName = None,
    tokens: Annotated[
        int, typer.Option(min=0, max=MAX_SHOWN, help="Tokens to show either way; 0 does not load the model.")
    ] = 8,
    prompts: Annotated[int, typer.Option(min=0, max=MAX_SHOWN, help="Stored prompts to show either way.")] = 3,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """One vector: what it is, how good it is, and what it means."""
    opened = Store.existing(store or default_store())
    vectors = library.named(opened, text, identity_of(opened, model))
    of_each = _tokens_of(opened, vectors, tokens)
    found = [_about(opened, vector, of_one, prompts) for vector, of_one in zip(vectors, of_each, strict=True)]
    if as_json:
        print_json(found[0] if len(found) == 1 else found)
        return
    for about, vector in zip(found, vectors, strict=True):
        _print_vector(about, vector)


def _tokens_of(store: Store, vectors: Sequence[Vector], n: int) -> list[dict[str, Any]]:
    """The `n` tokens that each vector promotes and suppresses most; without any, their one model is not loaded."""
    if not n:
        return [{} for _ in vectors]
    (row,) = store.rows("SELECT name FROM raw.models WHERE model_id = ?", [vectors[0].model_id])
    with open_model(row["name"]) as loaded:
        meanings = promoted_tokens(loaded, vectors, n)
    return [{"promoted": meaning.promoted, "suppressed": meaning.suppressed} for meaning in meanings]


def _about(store: Store, vector: Vector, tokens: dict[str, Any], prompts: int) -> dict[str, Any]:
    """What the store knows of a vector, beside its tokens: its row, its qualities, and prompts at either end of it."""
    (row,) = store.rows("SELECT * EXCLUDE (vector) FROM vectors WHERE vector_id = ?", [vector.vector_id])
    quality = store.rows("SELECT * FROM vector_quality WHERE vector_id = ?", [vector.vector_id])
    measured = {k: v for k, v in (quality[0] if quality else {}).items() if k not in row and v is not None}
    if vector.recommended is not None:
        row |= {"recommended_alpha": vector.recommended, "recommended_dose": vector.dose(vector.recommended)}
    return {"vector": row, "quality": measured, "tokens": tokens, "prompts": extreme_prompts(store, vector, prompts)}


def _print_vector(found: dict[str, Any], vector: Vector) -> None:
    out = console()
    facts = {**found["vector"], "alpha_at_dose_1": vector.alpha(1.0)}
    print_rows([{"what": k, "value": _plain(v)} for k, v in facts.items() if v not in (None, [])], ["what", "value"])
    if found["quality"]:
        print_rows([{"quality": k, "value": v} for k, v in found["quality"].items()], ["quality", "value"])
    for kind, named in found["tokens"].items():
        out.print(Text(kind, "bold"), end=" ")
        out.print("  ".join(f"{token!r} {score:+.1f}" for token, score in named), highlight=False)
    if found["prompts"]:
        print_rows(found["prompts"], ["projection", "text"])


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def compare(
    texts: Annotated[list[str], typer.Argument(help="Two vectors or more: names, keys or concept/method/layer.")],
    model: ModelName = None,
    layers: OfLayers = None,
    all_layers: EveryLayer = False,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """The cosine of every two of the vectors, layer by layer where a name stands for several."""
    opened = Store.existing(store or default_store())
    of = layers_asked_for(layers, all_layers)
    sets = [(text, one_a_layer(opened, text, model, of)) for text in texts]
    rows = [
        {
            "one": one,
            "other": other,
            "layer": a.layer,
            "other_layer": b.layer,
            "cosine": cosine(a, b),
            "norm": a.norm,
            "other_norm": b.norm,
        }
        for i, (one, mine) in enumerate(sets)
        for other, theirs in sets[i + 1 :]
        for a, b in _met(mine, theirs)
    ]
    if not rows:
        raise VectorError(f"{', '.join(texts)} have no layer in common: name two vectors of one width, or of one layer")
    print_rows(rows, list(rows[0]), form)


def _met(mine: Sequence[Vector], theirs: Sequence[Vector]) -> list[tuple[Vector, Vector]]:
    """The pairs that are compared: two single vectors whatever their layers, else the vectors of each shared layer."""
    if len(mine) == len(theirs) == 1:
        return [(mine[0], theirs[0])]
    return [(a, b) for a in mine for b in theirs if a.layer == b.layer]


@app.command("export")
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


@app.command("import")
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


@app.command()
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


@app.command()
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


@app.command()
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
