"""`steer vectors discover`: directions that prompts of no concept differ along."""

from pathlib import Path
from typing import Annotated

import typer

from steering_core.activations.extract import extract
from steering_core.cli.shared.named_vectors import ModelAt
from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.cli.shared.prompts_in import lines
from steering_core.foundation.bounds import MAX_DIRECTIONS, MAX_LAYER
from steering_core.foundation.errors import SpecError, VectorError
from steering_core.foundation.keys import MAX_SEED
from steering_core.models import open_model
from steering_core.pipeline.rows import prompt_row
from steering_core.pipeline.stages import registered
from steering_core.prompts import prompt
from steering_core.reports.printing import Format, print_rows, progress_bars
from steering_core.store import Store, default_store
from steering_core.vectors import saving
from steering_core.vectors.allowed_names import may_be_a_name
from steering_core.vectors.discovery import check_discovery, discover
from steering_core.vectors.meaning import extreme_prompts, promoted_tokens


def discover_features(
    model: ModelAt,
    prompts: Annotated[Path, typer.Argument(help="A text file, one prompt a line; no labels.")],
    layer: Annotated[int, typer.Option(min=0, max=MAX_LAYER, help="The layer to look at.")],
    method: Annotated[str, typer.Option(help="clusters (k-means) or components (principal directions).")] = "clusters",
    k: Annotated[int, typer.Option("-k", min=2, max=MAX_DIRECTIONS, help="How many directions.")] = 8,
    name: Annotated[str | None, typer.Option(help="They go by NAME-0, NAME-1, …; the file's name.")] = None,
    position: Annotated[str, typer.Option(help="Where activations are read: last or mean.")] = "mean",
    chat: Annotated[bool, typer.Option("--chat", help="Put prompts into the chat template.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Where k-means starts.")] = 0,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Directions in prompts that nobody labelled, each with its share, its tokens and its most typical prompt."""
    if position not in ("last", "mean"):
        raise SpecError(f"position {position!r}: prompts without an answer are read at last or mean")
    texts = lines(prompts)
    names = [f"{name or prompts.stem}-{place}" for place in range(k)]
    if not may_be_a_name(names[0]):
        raise VectorError(f"{names[0]!r} cannot be a vector's name: give what its name begins with, with --name")
    opened = Store(store or default_store())
    with open_model(model) as loaded:
        loaded.checked_layers([layer])
        found = {p.prompt_id: p for p in (prompt(loaded, text, chat=chat) for text in texts)}
        check_discovery(method, k, len(found))  # before minutes of extraction
        with opened.in_use(), progress_bars() as notify:
            registered(opened, loaded)
            opened.append("prompts", [prompt_row(p) for p in found.values()])
            extract(
                loaded, opened, found.values(), [layer], position, lambda n, of: notify("extract activations", n, of)
            )
            vectors = discover(opened, loaded.identity, list(found), layer, position, method, k, seed)
        for called, vector in zip(names, vectors, strict=True):
            saving.rename(opened, [vector], called)
        meanings = promoted_tokens(loaded, vectors, 6)
    rows = [
        {
            "name": called,
            "vector_id": vector.vector_id,
            "share": vector.lineage["share"],
            "tokens": " ".join(repr(token) for token, _ in meaning.promoted),
            "typical": extreme_prompts(opened, vector, 1)[0]["text"],
        }
        for called, vector, meaning in zip(names, vectors, meanings, strict=True)
    ]
    print_rows(rows, list(rows[0]), form)
