"""`steer capabilities MODEL --vector NAME`: what else a vector changes: arithmetic, facts, grammar, refusals, …"""

from typing import Annotated, Any

import typer

from steering_core.api.stored_vectors import find_vectors
from steering_core.capabilities import available_sets, load_set, load_sets
from steering_core.cli.shared.options import FormatOption, StoreOption, TemplateOption, template_arguments
from steering_core.cli.shared.steering_options import SteeringOptions, grouped
from steering_core.evaluation.costs import costs_of
from steering_core.foundation.errors import InterventionError
from steering_core.models import open_model
from steering_core.pipeline.stages import registered
from steering_core.pipeline.steered import steered_cell
from steering_core.reports.printing import Format, console, print_rows, progress_bars
from steering_core.scores.capabilities import measure_sets
from steering_core.spec import ScoresSpec
from steering_core.store import Store, default_store
from steering_core.vectors.vector import Vector

app = typer.Typer()
_COLUMNS = ("set", "n", "chance", "unsteered", "steered", "change", "ci_low", "ci_high", "p_value", "lost", "gained")
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="A set by name, or a file of one; several may be given. All shipped.")
]


@app.command()
@grouped
def capabilities(
    model: Annotated[str | None, typer.Argument(help="A model's name, a folder, or a Hugging Face id.")] = None,
    *,
    steering: SteeringOptions,
    sets: Sets = None,
    template: TemplateOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Measure what steering does to capabilities: accuracy with and without it, on the same items.

    Without a model, the sets that there are. Answers stay in the store (view `capabilities`): nothing is asked twice.
    """
    if model is None:
        print_rows(_listed(sets), ["set", "n", "chance", "kind", "description"], form)
        return
    expression, layers = steering.expression, steering.wanted_layers
    if expression is None:
        raise InterventionError("nothing steers: add --vector NAME, or --steer EXPRESSION")
    wanted = load_sets(sets or sorted(available_sets()))
    opened = Store.existing(store or default_store())
    with open_model(model, template_arguments(template)) as network, progress_bars() as notify:

        def find(name: str) -> tuple[Vector, ...]:
            """A name's vectors in the store, at the layers that the options want."""
            return find_vectors(network, name, store, layers=layers)

        cell = steered_cell(registered(opened, network), opened, expression, find)
        done = measure_sets(network, opened, [cell], wanted, lambda n, total: notify("capabilities", n, total))
    rows = sorted(done.rows, key=lambda row: (row["change"], row["set"]))
    print_rows([{name: row[name] for name in _COLUMNS} for row in rows], _COLUMNS, form)
    if form is Format.TABLE:
        most = ScoresSpec().max_drop
        costs = "; ".join(costs_of(rows, most)) or f"no set surely loses more than {100 * most:g} points"
        counts = f"{done.did.work.computed} answers asked, {done.did.work.reused} reused"
        console().print(f"{cell.expression}: {costs}. {counts}.", highlight=False)


def _listed(names: list[str] | None) -> list[dict[str, Any]]:
    """The sets of those names, or all that are found by name, a row each."""
    rows = []
    for name in names or sorted(available_sets()):
        one = load_set(name)
        kind = "questions" if not one.tasks else "tasks" if not one.questions else "both"
        row = {"set": one.name, "n": one.n, "chance": one.chance, "kind": kind, "description": one.description}
        rows.append(row)
    return rows
