"""Looking at vectors: `list`, `show`, `compare` and `chart`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from steering_core.cli.shared.named_vectors import Called, EveryLayer, ModelName, OfLayers, identity_of, one_a_layer
from steering_core.cli.shared.options import FormatOption, JsonOption, StoreOption
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.foundation.bounds import MAX_SHOWN
from steering_core.foundation.errors import VectorError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.models import open_model
from steering_core.reports.charts.listed import charts_in, library_picture
from steering_core.reports.printing import Format, console, print_json, print_rows
from steering_core.store import Store, default_store
from steering_core.store.values import rows_of
from steering_core.vectors import library
from steering_core.vectors.library_rows import library_rows
from steering_core.vectors.meaning import extreme_prompts, promoted_tokens
from steering_core.vectors.vector import Vector, cosine

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


def chart(
    kind: Annotated[str, typer.Argument(help=", ".join(charts_in("command")))],
    to: Annotated[Path, typer.Option(help="FILE.html, .svg, .png or .json (Vega-Lite).")],
    concept: Annotated[str | None, typer.Option(help="Only this concept.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    store: StoreOption = None,
) -> None:
    """Draw the quality of the library's vectors."""
    charts = charts_in("command")
    if kind not in charts:
        raise VectorError(f"there is no chart {kind!r}: {did_you_mean(kind, charts)}")
    drawn = library_picture(Store.existing(store or default_store()), kind, model, concept)
    if drawn is None:
        told = f"the store has nothing that {kind} could be drawn from"
        raise VectorError(f"{told}: run a spec {charts[kind].needs}, or `steer vectors derive`")
    drawn.save(to)
    typer.echo(str(to))
