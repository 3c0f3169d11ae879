"""What the verbs that measure have in common: a spec's models and concepts, measured and printed."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from steering_core.cli.shared.specs_in import allowed_spec
from steering_core.pipeline.measuring import Measure, measured_rows, over_layers
from steering_core.reports.printing import Format, print_rows, progress_bars
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store, default_store


def spec_of(spec: str, model: str | None, concept: str | None, layers: Literal["all"] | None = None) -> Spec:
    """The spec of that name or file, with the model, concept and layers named instead of its own."""
    wanted = allowed_spec(spec)
    wanted = wanted.model_copy(
        update={"models": (model,) if model else wanted.models, "concepts": (concept,) if concept else wanted.concepts}
    )
    return over_layers(wanted, layers) if layers else wanted


@contextlib.contextmanager
def shown_run(spec: Spec, store: Store) -> Iterator[Run]:
    """A run of a spec, for a `with`: its progress is shown, and `steer runs` does not list it."""
    with progress_bars() as notify, Run(spec, store, notify, keeps_outcomes=False) as run:
        yield run


def print_measured(spec: Spec, measure: Measure, store: str | None, form: Format) -> None:
    """Print the rows of every cell of a spec, while progress is shown. Raises what went wrong in a cell at the end."""
    with shown_run(spec, Store(store or default_store())) as run:
        rows = measured_rows(run, measure)
    if rows:
        print_rows(rows, list(rows[0]), form)
    run.raise_failures({"measured": rows})
