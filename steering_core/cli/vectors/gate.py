"""`steer vectors gate NAME`: the thresholds from which a vector is said to show, with their false alarms."""

import sys
from typing import Annotated

import typer

from steering_core.cli.shared.named_vectors import Called, ModelName
from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.concepts import load_concept
from steering_core.foundation.counting import Work
from steering_core.models import open_model
from steering_core.monitors.gates import OVER, concept_of, curve_text, fit_gates
from steering_core.reports.printing import Format, print_rows
from steering_core.store import Store, default_store
from steering_core.vectors import library

Fitted = Annotated[str | None, typer.Option(help="The concept whose pairs it is fitted on; the vector's own.")]
_SHOWN = ["over", "threshold", "auc", "hit_rate", "false_alarm_rate", "n_fitted", "n_held_out", "gate_id"]


def gate(
    text: Called,
    model: ModelName = None,
    concept: Fitted = None,
    roc: Annotated[str | None, typer.Option(help="Print the ROC curve over mean or token, and nothing else.")] = None,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Fit a vector's gates on validation pairs, held to test pairs; @when(gate(NAME)) and monitors use them."""
    if roc is not None and roc not in OVER:
        raise typer.BadParameter(f"{roc!r}: the curve is over {' or '.join(OVER)}", param_hint="--roc")
    opened = Store.existing(store or default_store())
    if model is None:
        vector = library.find(opened, text)
        (row,) = opened.rows("SELECT name FROM models WHERE model_id = ?", [vector.model_id])
        model = row["name"]
    with open_model(model) as network:
        vector = library.find(opened, text, network.identity)
        read = load_concept(concept) if concept else concept_of(opened, vector)
        gates = fit_gates(network, opened, vector, read, Work())
    if roc is not None:
        (curve,) = [curve_text(one) for one in gates if one.over == roc]
        sys.stdout.write(curve + "\n")
        return
    print_rows([one.row() for one in gates], _SHOWN, form)
