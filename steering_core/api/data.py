"""The store's data in Python: whole runs, and activations as arrays and frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from steering_core.api.options import StorePath
from steering_core.foundation.errors import QueryError, SpecError
from steering_core.foundation.validation import checked
from steering_core.pipeline.discover import run as run_here
from steering_core.spec import Spec, load_spec
from steering_core.store import Store, default_store

if TYPE_CHECKING:
    import pandas
    import polars


def run(spec: Spec | Mapping[str, Any] | str | Path, store: StorePath = None) -> dict[str, Any]:
    """Run a spec in this process; its report, with the recommendations. What the store holds is not computed again.

    A spec is a YAML file, a name of data/specs, a mapping of its keys, or a `Spec`. Raises SpecError, and RunIncomplete
    where a cell failed, when the others are done.
    """
    if isinstance(spec, Mapping):
        spec = checked(Spec, dict(spec), "the spec", SpecError)
    return run_here(spec if isinstance(spec, Spec) else load_spec(spec), Store(store or default_store()))


@dataclass(frozen=True)
class Activations:
    """Activations with the pair and side that each belongs to: columns of the view `activations`, as an Arrow table."""

    table: pa.Table

    def __len__(self) -> int:
        return len(self.table)

    def numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """The activations (N, D) float32, and whether each is of a positive side, (N,) bool, for classifiers."""
        values = np.array(self.table["activation"].to_pylist(), np.float32)
        return values, np.array([side == "positive" for side in self.table["side"].to_pylist()])

    def pandas(self) -> "pandas.DataFrame":
        """The same as pandas' frame; needs pandas."""
        return self.table.to_pandas()

    def polars(self) -> "polars.DataFrame":
        """The same as polars' frame; needs polars."""
        import polars  # an extra: people who use it have it

        frame = polars.from_arrow(self.table)
        assert isinstance(frame, polars.DataFrame), "a table is a frame"
        return frame


def activations(
    concept: str, layer: int, model: str | None = None, split: str | None = None, store: StorePath = None
) -> Activations:
    """The stored activations of a concept's pairs at one layer, in a fixed order; of one `split` where it is given.

    Raises QueryError where the store has none, or those of several models and none is named.
    """
    opened = Store.existing(store)
    found = opened.query(
        "SELECT model, concept, pair_id, side, split, position, layer, residual_norm, activation FROM activations "
        "WHERE concept = $1 AND layer = $2 AND site = 'resid_post' AND side IS NOT NULL "
        "AND ($3 IS NULL OR model = $3) AND ($4 IS NULL OR split = $4) ORDER BY model, position, pair_id, side",
        [concept, layer, model, split],
    )
    if not len(found):
        raise QueryError(
            f"the store {opened.root} has no activations of {concept!r} at layer {layer}: run a spec first"
        )
    if len(models := set(found["model"].to_pylist())) > 1:
        raise QueryError(f"{concept!r} was read by {', '.join(sorted(models))}: name one with model=")
    return Activations(found)
