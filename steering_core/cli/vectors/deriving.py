"""`steer vectors derive`: vectors of a concept, from nothing but its pairs and the model."""

import shlex
from typing import Annotated

import typer

from steering_core.authoring.lint.check import lint
from steering_core.cli.shared.measuring import shown_run
from steering_core.cli.shared.named_vectors import ModelAt
from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.concepts import Concept
from steering_core.concepts.concept import SIDES
from steering_core.concepts.held_out import REMEDY, lack_of_prompts
from steering_core.foundation.bounds import MAX_CONTROLS, MAX_REDRAWS
from steering_core.foundation.errors import SpecError, VectorError
from steering_core.foundation.validation import checked, counted
from steering_core.interventions.declarations import USUAL_DOSE
from steering_core.interventions.expression import Amount
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stages import derive_vectors
from steering_core.reports.printing import Format, print_rows
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Row, Store, default_store
from steering_core.store.commands import at_store, commands_at_store
from steering_core.store.queries import named_query
from steering_core.vectors import library


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
    if lack := lack_of_prompts(concept):
        few = f" ({lack}; {REMEDY})"
    elif not n:
        few = ": its AUC on test is unknown (60 pairs that name no split leave 12)"
    return f"{said}{few}. AUC says that sides are told apart; whether a vector steers, `steer run SPEC.yaml` measures."
