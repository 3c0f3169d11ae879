"""The sub-verbs of `steer vectors` that make vectors, `derive`, `discover` and `blend`, and draw them, `chart`."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from steering_core.activations.extract import extract
from steering_core.authoring.lint.check import lint
from steering_core.cli.shared.measuring import shown_run
from steering_core.cli.shared.named_vectors import EveryLayer, ModelName, OfLayers, one_a_layer, print_made
from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.cli.shared.prompts_in import lines
from steering_core.cli.shared.steering_options import layers_asked_for
from steering_core.concepts import Concept
from steering_core.concepts.concept import SIDES
from steering_core.foundation.bounds import MAX_CONTROLS, MAX_DIRECTIONS, MAX_LAYER, MAX_REDRAWS
from steering_core.foundation.errors import SpecError, VectorError
from steering_core.foundation.keys import MAX_SEED
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.validation import checked, counted
from steering_core.interventions.declarations import USUAL_DOSE
from steering_core.interventions.expression import Amount
from steering_core.models import Model, open_model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.rows import prompt_row
from steering_core.pipeline.stages import derive_vectors, registered
from steering_core.prompts import prompt
from steering_core.reports.charts.listed import charts_in, library_picture
from steering_core.reports.printing import Format, print_rows, progress_bars
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Row, Store, default_store
from steering_core.store.commands import at_store, commands_at_store
from steering_core.store.queries import named_query
from steering_core.vectors import algebra, library, saving
from steering_core.vectors.allowed_names import may_be_a_name
from steering_core.vectors.discovery import check_discovery, discover
from steering_core.vectors.meaning import extreme_prompts, promoted_tokens
from steering_core.vectors.vector import Vector

ModelAt = Annotated[str, typer.Argument(help="An embedded model, an mlx-lm folder, or a Hugging Face id.")]


def register(app: typer.Typer) -> None:
    """Add these sub-verbs to `steer vectors`."""
    app.command("derive")(derive)
    app.command("discover")(discover_features)
    app.command("blend")(blend)
    app.command("chart")(chart)


def derive(
    model: ModelAt,
    concept: Annotated[str, typer.Argument(help="A concept's name or file.")],
    method: Annotated[
        list[str] | None, typer.Option(help="A method, or FILE.py:FUNCTION; may be given again. mean_difference.")
    ] = None,
    layers: Annotated[str, typer.Option(help="all, or numbers with commas.")] = "all",
    train_layers: Annotated[
        str, typer.Option(help="Where trained methods train: numbers with commas, or auto, the two best of the layers.")
    ] = "auto",
    position: Annotated[
        str, typer.Option(help="Where activations are read: last, mean, response or span:a:b.")
    ] = "response",
    controls: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_CONTROLS, help="Random directions beside each vector, and as many with shuffled labels."
        ),
    ] = 3,
    draws: Annotated[
        int, typer.Option(min=0, max=MAX_REDRAWS, help="How often pairs are redrawn for the qualities; 0: none.")
    ] = 100,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Vectors of a concept and their qualities, without generating a text: what the store lacks is extracted.

    Methods that ask the model (gradient, natural_gradient, preference, joint_preference, one_shot) are trained.
    """
    wanted = "all" if layers == "all" else layers.split(",")
    options = {
        "models": [model],
        "concepts": [concept],
        "activations": {"layers": wanted, "position": position},
        "vectors": {
            "methods": method or ["mean_difference"],
            "train_layers": "auto" if train_layers == "auto" else train_layers.split(","),
            "controls": controls,
            "quality_draws": draws,
        },
        "generations": {"layers": wanted},
    }
    spec = checked(Spec, options, "what was asked for", SpecError)
    opened = Store(store or default_store())
    made, read = _derived(spec, opened)
    rows = [row for row in opened.rows(named_query("vectors_in_library")) if row["vector_id"] in made]
    print_rows(
        rows, ["vector_id", "method", "layer", "norm", "auc_test", "d_prime_test", "split_half", "n_pairs"], form
    )
    if form is Format.TABLE:
        typer.echo(commands_at_store(_worth(read), opened.root))
        if wrong := sum(finding.level == "error" for finding in lint(read)):
            found = f"`steer concepts lint {shlex.quote(concept)}` finds {counted(wrong, 'error')} in the concept"
            typer.echo(f"{found}: mend {'it' if wrong == 1 else 'them'} before its vectors are worth anything.")
        best = max(rows, key=lambda row: row["d_prime_test"] or 0.0)
        steering = ["-s", f"{Amount.of_dose(USUAL_DOSE)}*{_called(opened, best)}", "--compare"]
        steered = ["steer", "generate", model, "Tell me about your day.", *steering]
        typer.echo(f"Try one: {at_store(shlex.join(steered), opened.root)}")


def _called(store: Store, row: Row) -> str:
    """A vector's concept, method and layer as one name, or its key where the store has others of that name."""
    name = f"{row['concept']}/{row['method']}/{row['layer']}"
    try:
        found = library.find_all(store, name)
    except VectorError:
        return str(row["vector_id"])
    return name if [vector.vector_id for vector in found] == [row["vector_id"]] else str(row["vector_id"])


def _derived(spec: Spec, store: Store) -> tuple[set[str], Concept]:
    """Derive the vectors of a spec of one concept; the keys of those that are no controls, and the concept."""
    made, read = set[str](), list[Concept]()

    def cell(run: Run, model: Model, concept: Concept) -> None:
        """Derive one cell's vectors, and note the keys."""
        read.append(concept)
        made.update(v.vector_id for v in derive_vectors(run, model, concept) if v.control is None)

    with shown_run(spec, store) as run:
        each_cell(run, cell)
    run.raise_failures({"vectors": sorted(made)})
    return made, read[0]


FEW_HELD_OUT = 10  # test pairs, of which an AUC of 1 is no proof


def _worth(concept: Concept) -> str:
    """What the qualities of a concept's vectors were measured on, and what they are worth."""
    trained, tested = (
        counted(min(len(concept.texts_in(split, side)) for side in SIDES), "text" if concept.unpaired else "pair")
        for split in ("train", "test")
    )
    n = min(len(concept.texts_in("test", side)) for side in SIDES)
    said = f"Made from {trained} that train, measured on {tested} held out for the test"
    few = ": so few prove nothing, not even by an AUC of 1 (60 pairs leave 12)" if n < FEW_HELD_OUT else ""
    return f"{said}{few}. AUC says that sides are told apart; whether a vector steers, `steer run SPEC.yaml` measures."


def blend(
    terms: Annotated[list[str], typer.Argument(help="WEIGHT*VECTOR or VECTOR; a weight may be negative.")],
    name: Annotated[str, typer.Option(help="What the result goes by.")],
    orthogonal_to: Annotated[list[str] | None, typer.Option(help="Take this vector's direction out of it.")] = None,
    unit: Annotated[bool, typer.Option("--unit", help="Give the result length 1.")] = False,
    model: ModelName = None,
    layers: OfLayers = None,
    all_layers: EveryLayer = False,
    store: StoreOption = None,
) -> None:
    """Make a vector of others: the sum of the terms, layer by layer where they have several.

    A name means what was recommended under it, at its layers and strength: the blend's own strength is then 1. One
    term alone scales it; weights 1 and -1 subtract. Write `--` before a first term that begins with a minus.
    """
    opened = Store.existing(store or default_store())
    of = layers_asked_for(layers, all_layers)
    parsed = [_term(opened, term, model, of) for term in terms]
    made = []
    for layer in sorted({vector.layer for _, vectors in parsed for vector in vectors}):
        here = [(weight, v) for weight, vectors in parsed for v in vectors if v.layer == layer]
        alphas = [v.usual_alpha for _, v in here]
        weights = [weight * alpha for (weight, _), alpha in zip(here, alphas, strict=True)]
        vector = algebra.blended([v for _, v in here], weights)
        if against := [one_a_layer(opened, text, model, [layer])[0] for text in orthogonal_to or []]:
            vector = algebra.orthogonalised(vector, against)
        made.append(algebra.normalised(vector) if unit else vector)
    print_made(saving.save(opened, made, name), name)
    if said := _unshared(terms, parsed):
        typer.echo(said)


def _unshared(terms: Sequence[str], parsed: Sequence[tuple[float, tuple[Vector, ...]]]) -> str:
    """A sentence on the terms' layers, where they do not all have the same; else ""."""
    layers = [{vector.layer for vector in vectors} for _, vectors in parsed]
    every, shared = set.union(*layers), set.intersection(*layers)
    if every == shared:
        return ""
    by_term = "; ".join(f"{term} at layers {_listed(of)}" for term, of in zip(terms, layers, strict=True))
    if not any(sum(layer in of for of in layers) > 1 for layer in every):
        return (
            f"Nothing was added up: no layer has two of the terms ({by_term}). They act side by side, each at its own "
            "layers. To add them up, take their vectors of one layer with --layers."
        )
    there = f"--layers {','.join(map(str, sorted(shared)))} takes only these" if shared else "no layer has all terms"
    return f"All terms are added up at layers {_listed(shared) or 'none'}: {by_term}; {there}."


def _listed(layers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(layers)))


def _term(store: Store, text: str, model: str | None, of: library.WantedLayers) -> tuple[float, tuple[Vector, ...]]:
    """The weight of WEIGHT*VECTOR, or 1, and the vectors that it names."""
    written, star, called = text.rpartition("*")
    try:
        weight = float(written) if star else 1.0
    except ValueError as error:
        raise VectorError(f"{text!r} is no term: write WEIGHT*VECTOR, such as 0.7*french/mean_difference/14") from error
    return weight, one_a_layer(store, called.strip(), model, of)


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
