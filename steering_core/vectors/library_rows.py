"""The library as a table: every vector of a store with its quality, as `steer vectors list` and notebooks show it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from steering_core.foundation.errors import VectorError
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors.library import find_all


def library_rows(
    store: Store, text: str | None = None, model: str | None = None, *, controls: bool = False
) -> pa.Table:
    """The vectors of the store, a row each: of what goes by `text`, and of a model by its name or key.

    Random and shuffled-label controls are left out without `controls`. Raises VectorNotFound where nothing goes by
    `text`, VectorError for a model that the store lacks.
    """
    rows = store.query(named_query("vectors_in_library"))
    if not controls:
        rows = rows.filter(pc.is_null(rows["control"]))
    for kept in (_of_model(store, model), _called(store, text)):
        if kept is not None:
            rows = rows.filter(pc.is_in(rows["vector_id"], pa.array(sorted(kept), pa.string())))
    return rows


def models_called(store: Store, model: str) -> list[dict[str, Any]]:
    """The rows of the models that the store knows by that name or key. Raises VectorError where there is none."""
    rows = store.rows("SELECT * FROM raw.models WHERE name = $1 OR model_id = $1 ORDER BY model_id", [model])
    if not rows:
        known = store.rows("SELECT DISTINCT name FROM raw.models ORDER BY name")
        raise VectorError(
            f"the store has no model {model!r}: there are {', '.join(r['name'] for r in known) or 'none'}"
        )
    return rows


def _of_model(store: Store, model: str | None) -> set[str] | None:
    """The keys of a model's vectors, the model by its name or key; None for None."""
    if model is None:
        return None
    ids = [row["model_id"] for row in models_called(store, model)]
    rows = store.rows("SELECT vector_id FROM raw.vectors WHERE list_contains(?, model_id)", [ids])
    return {row["vector_id"] for row in rows}


def _called(store: Store, text: str | None) -> set[str] | None:
    """The keys of the vectors that go by a text; None for None."""
    return None if text is None else {vector.vector_id for vector in find_all(store, text)}
