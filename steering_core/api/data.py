"""Measurements in Python: whole runs, layer sweeps and dose sweeps."""

import contextlib
import html
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from steering_core.api.options import StorePath, check_split, concept_or_name
from steering_core.api.row_table import Rows
from steering_core.api.stored_vectors import find_vector
from steering_core.concepts import Concept, Split, load_concept
from steering_core.foundation.bounds import MAX_CONTROLS, MAX_KL, checked_dose, whole_number
from steering_core.foundation.cautions import warn
from steering_core.foundation.errors import InterventionError, SpecError, VectorError
from steering_core.foundation.progress import Notify, notify_nobody
from steering_core.foundation.validation import checked
from steering_core.models import Model
from steering_core.models.shared_names import shared_name
from steering_core.pipeline.discover import run as run_here
from steering_core.pipeline.doses import dose_rows
from steering_core.pipeline.measuring import layer_sweep_rows, measured_rows, over_layers
from steering_core.pipeline.shortages import lack_of_wanted_items
from steering_core.pipeline.steps import numbered, steps
from steering_core.reports.charts.evaluation import layer_profile
from steering_core.reports.charts.explorer import dose_response
from steering_core.reports.charts.picture import Picture
from steering_core.reports.printing import progress_bars
from steering_core.reports.verdict_words import plain_verdict, verdict_in_words
from steering_core.runs import Run
from steering_core.spec import ScoresSpec, Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store, default_store
from steering_core.vectors.saving import stored_alike
from steering_core.vectors.vector import Vector

SpecLike = Spec | Mapping[str, Any] | str | Path
"""A spec: a `Spec`, a mapping of its keys, a YAML file, or a name of data/specs."""

LEAST_DAMAGE = 0.001  # nats per token
DOSES = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)


class Recommended(dict[str, Any]):
    """A recommendation: a row of the store's `recommendations` by column names, and the verdict as its name."""

    def __repr__(self) -> str:
        return f"<Recommended on {self['model']}: {plain_verdict(self)}>"


class Report(dict[str, Any]):
    """What a run did: its `run` (an id), `stages`, `recommendations`, and `failures` where there are any."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report | {"recommendations": [Recommended(row) for row in report["recommendations"]]})

    def __repr__(self) -> str:
        return f"<Report of run {self['run']}: {'; '.join(self._verdicts()) or 'nothing recommended'}>"

    def _repr_html_(self) -> str:
        """Each recommendation's verdict."""
        return "".join(f"<p>{html.escape(verdict)}</p>" for verdict in self._verdicts())

    def _verdicts(self) -> list[str]:
        return [f"{r['model']}: {verdict_in_words(r).plain}" for r in self["recommendations"]]


def run(spec: SpecLike, store: StorePath = None, *, progress: bool = True) -> Report:
    """Run a spec in this process; its report, with the recommendations. What the store holds is not computed again.

    A spec is a YAML file, a name of data/specs, a mapping of its keys, or a `Spec`. Each step is told of on standard
    error as it begins, and on a terminal by a bar, unless `progress` is False. Raises SpecError, and RunIncomplete
    where a cell failed, when the others are done.
    """
    wanted = _spec(spec)
    with _told(progress) as notify:
        return Report(run_here(wanted, Store(store or default_store()), numbered(notify, steps(wanted))))


def _told(progress: bool) -> contextlib.AbstractContextManager[Notify]:
    """What hears how far a measurement is: standard error as the command line has it, or nobody."""
    return progress_bars() if progress else contextlib.nullcontext(notify_nobody)


class LayerSweep(Rows):
    """Every vector's effect at the dose where all do the same damage: a row a layer, method, concept and model."""

    def chart(self) -> Picture:
        """The effects by layer with their intervals; grey: the best control's at the same damage."""
        rows = [
            {
                **row,
                "effect": row["odd_effect"],
                "control_effect": _control(row),
                "method": row["name"] or row["method"],
            }
            for row in self
        ]
        items = f"{rows[0]['n']} held-out items"
        said = (
            f"Odd effect of each layer's vector at equal damage with its interval, on {items}; grey: its best control."
        )
        return Picture("layer_sweep", layer_profile(rows), said, "Odd effect by layer at equal damage", _whose(rows))


def _whose(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of which concepts and models the rows are, and of which vector of one's own where they are of one alone."""
    of = dict.fromkeys(f"{row['concept']} on {shared_name(row['model'])}" for row in rows)
    names = {row["name"] for row in rows}
    name = names.pop() if len(names) == 1 else None
    return (f"{name}: " if name else "") + ", ".join(of)


def _control(row: Mapping[str, Any]) -> float | None:
    return None if row["over_controls"] is None else row["odd_effect"] - row["over_controls"]


def layer_sweep(
    spec: SpecLike,
    layers: Sequence[int] | Literal["all"] = "all",
    damage: float = 0.2,
    store: StorePath = None,
    *,
    progress: bool = True,
) -> LayerSweep:
    """Which layer steers best: each one's effect where all do the same `damage`, beside controls, best first.

    `damage` is in nats per token of neutral answers. The same as `steer sweep-layers`, for `layers` in place of the
    spec's; `progress` is as in `run`. Raises SpecError, LayerNotFound, and what goes wrong in a cell when the others
    are done.
    """
    if not LEAST_DAMAGE <= damage <= MAX_KL:
        raise SpecError(f"damage is {damage!r}: give nats per token from {LEAST_DAMAGE} to {MAX_KL:g}")
    wanted = over_layers(_spec(spec), layers if layers == "all" else tuple(layers))
    opened = Store(store or default_store())
    with _told(progress) as notify, Run(wanted, opened, notify, keeps_outcomes=False) as this:
        rows = measured_rows(this, partial(layer_sweep_rows, damage=damage))
    this.raise_failures({"measured": rows})
    return LayerSweep(pa.Table.from_pylist(rows))


class DoseSweep(Rows):
    """What a vector does at each dose, beside no steering and the vector turned at random: a row each, by dose."""

    def chart(self) -> Picture:
        """Effect over dose with its interval; grey: the vector turned at random."""
        said = "Effect over dose with its interval; grey: the same vector turned at random, at that dose."
        return Picture("dose_sweep", dose_response(list(self)), said, "Effect over dose", _whose(list(self)))


def dose_sweep(
    model: Model,
    vector: Vector | str,
    concept: str | Path | Concept,
    doses: Sequence[float] = DOSES,
    split: Split = "validation",
    controls: int = 2,
    items: int | None = None,
    store: StorePath = None,
    *,
    progress: bool = True,
) -> DoseSweep:
    """What a vector, or the one of that name, does to a concept's held-out items at each dose, in nats per token.

    Beside each dose stand no steering (dose 0) and `controls` random directions at the same dose; `kl` is the damage to
    the next token after neutral prompts. Choose a dose on the `split` validation, and report it on test. All is kept in
    the store, and what is there, from a run as well, is not measured again. Warns (SteeringWarning) where the concept
    has fewer `items` than are asked for; `progress` is as in `run`. Raises ConceptError, VectorMismatch,
    VectorError, QueryError for what is no split, SpecError for numbers that are none, and InterventionError where there
    is no dose but 0, and for one that is too large.
    """
    if isinstance(vector, str):
        vector = find_vector(model, vector, store)
    if not isinstance(vector, Vector):
        raise VectorError(
            f"a dose sweep is of one Vector or the name of one, not of a {type(vector).__name__}: sweep each by "
            "itself, or give a sum, 0.5 * v + w, of vectors of one layer"
        )
    vector.check(model.identity)
    vector.check_fit(model.name, model.identity.n_layers, model.identity.width)
    check_split(split)
    named = concept_or_name(concept)
    items = None if items is None else whole_number(items, "items", SpecError, 1)
    controls = whole_number(controls, "controls", SpecError, 0, MAX_CONTROLS)
    if isinstance(doses, str) or not isinstance(doses, Iterable):
        raise InterventionError(f"the doses are {doses!r}: give a list of numbers, such as [0.1, 0.3]")
    if not (wanted := sorted({checked_dose(_number(dose)) for dose in doses} - {0.0})):
        raise InterventionError("there are no doses but 0: give a list of numbers, such as [0.1, 0.3]")
    read = named if isinstance(named, Concept) else load_concept(named)
    opened = Store(store or default_store())
    if lack := lack_of_wanted_items(read, items, [split]):
        warn(lack)
    scores = ScoresSpec(items=items)
    known = vector if stored_alike(opened, vector) else vector.keyed()
    with _told(progress) as notify:
        heard = partial(notify, "measure doses")
        rows = dose_rows(opened, model, read, known, wanted, split, controls, scores, heard)
    return DoseSweep(pa.Table.from_pylist(rows))


def _number(dose: Any) -> Any:
    """A number of NumPy's as Python's own, which messages show plainly; anything else as it is."""
    return dose.item() if isinstance(dose, np.generic) else dose


def _spec(spec: SpecLike) -> Spec:
    if isinstance(spec, Spec):
        return spec
    if not isinstance(spec, Mapping | str | Path):
        raise SpecError(f"a spec is a file, a name, a mapping of its keys or a Spec, not a {type(spec).__name__}")
    return checked(Spec, dict(spec), "the spec", SpecError) if isinstance(spec, Mapping) else load_spec(spec)
